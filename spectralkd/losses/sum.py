"""Methods by name, and several at once: the sum of their terms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from spectralkd.losses import METHODS, find_method
from spectralkd.losses.base import Method, Phase, Reading, Taps, chosen_options, method_options


@dataclass(eq=False, repr=False)
class Sum(Method):
    """The terms of several methods, with one cross-entropy, that of the first which has one.

    A term has the name that its method gives it, or ``method.term`` where two methods use the
    same name. Phases before the last belong to the method that has them; in the last, which
    follows the recipe, all methods take part. The teacher's batch norms use the batch's
    statistics there if one of the methods asks for them.

    Args:
        methods: each method's options by its name.

    Raises:
        ValueError: fewer than two methods, an unknown one or an unknown option; methods that read
            different maps of a stage, or whose phases cannot be told apart.
    """

    methods: dict[str, dict[str, Any]]

    def __post_init__(self) -> None:
        if len(self.methods) < 2:
            known = ", ".join(self.methods) or "none"
            raise ValueError(f"methods: expected two or more, got {known}")
        parts = {name: make_method(name, options) for name, options in self.methods.items()}
        reads = {name: method.reads for name, method in parts.items() if method.reads}
        _check_equal("the maps that are read", reads)
        _check_equal("last phases", {name: m.phases[-1].name for name, m in parts.items()})
        earlier = [phase.name for method in parts.values() for phase in method.phases[:-1]]
        if len(set(earlier)) < len(earlier):
            raise ValueError(f"methods: expected phases of different names, got {earlier}")
        self.methods = {name: chosen_options(method) for name, method in parts.items()}
        self.parts = nn.ModuleList(parts.values())
        # What a method declares for its class, a sum declares for itself.
        needs = ("needs_teacher", "needs_margins", "needs_image_gradient")
        self.__dict__ |= {"reads": next(iter(reads.values()), None)}
        self.__dict__ |= {need: any(getattr(m, need) for m in parts.values()) for need in needs}

    @property
    def named(self) -> dict[str, Any]:
        """The methods by name."""
        return dict(zip(self.methods, self.parts, strict=True))

    @property
    def phases(self) -> tuple[Phase, ...]:
        earlier = [phase for method in self.named.values() for phase in method.phases[:-1]]
        last = [method.phases[-1] for method in self.named.values()]
        batch = any(phase.teacher_statistics == "batch" for phase in last)
        return (*earlier, Phase(last[0].name, teacher_statistics="batch" if batch else "running"))

    def build(self, teacher: Taps, student: Taps) -> None:
        for method in self.named.values():
            method.build(teacher, student)

    def trainable_parameters(self, phase: str) -> Iterable[nn.Parameter]:
        for method in self.taking_part(phase).values():
            yield from method.trainable_parameters(phase)

    def taking_part(self, phase: str) -> dict[str, Any]:
        """The methods that have a phase of this name."""
        return {
            name: method
            for name, method in self.named.items()
            if phase in [own.name for own in method.phases]
        }

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        # Only a method that asked for the gradient by the images may see the teacher's graph.
        plain = teacher._replace(
            logits=teacher.logits.detach(), maps=tuple(maps.detach() for maps in teacher.maps)
        )
        found = {
            name: method(teacher if method.needs_image_gradient else plain, student, labels, phase)
            for name, method in self.taking_part(phase).items()
        }
        count = Counter(term for terms in found.values() for term in terms)
        total: dict[str, Tensor] = {}
        for name, terms in found.items():
            for term, value in terms.items():
                clashes = term != "ce" and count[term] > 1
                total.setdefault(f"{name}.{term}" if clashes else term, value)
        return total


def make_method(
    method: str | Mapping[str, Mapping[str, Any]], options: Mapping[str, Any] | None = None
) -> Method:
    """A method by its name, or the sum of several.

    Args:
        method: as ``find_method``, or several such names joined by ``+``, or the options of
            one or several methods by their names.
        options: of the method; of a sum, each method's own by its name.

    Raises:
        ValueError: no such method or option, or methods that cannot be summed.
        TypeError: none of these.
    """
    options = options or {}
    if isinstance(method, Mapping):
        parts = {**method, **options}
        if wrong := [name for name, own in parts.items() if not isinstance(own, Mapping)]:
            raise ValueError(
                f"method: expected options by method, got {wrong[0]}={parts[wrong[0]]!r}"
            )
        if len(parts) == 1:
            return make_method(*next(iter(parts.items())))
        return Sum({name: dict(own) for name, own in parts.items()})
    if not isinstance(method, str):
        raise TypeError(
            f"method: expected a name, an instance of a Method, or options by name, got {method!r}"
        )
    if "+" in method:
        names = method.split("+")
        _check_options(method, options, names)
        return Sum({name: dict(options.get(name, {})) for name in names})
    kind = find_method(method)
    _check_options(method, options, method_options(kind))
    return kind(**options)


def method_name(method: Method) -> str:
    """The name by which ``make_method`` finds a method."""
    if isinstance(method, Sum):
        return "+".join(method.methods)
    kind = type(method)
    known = (name for name, entry in METHODS.items() if entry is kind)
    return next(known, f"{kind.__module__}:{kind.__qualname__}")


def _check_options(method: str, options: Iterable[str], known: Iterable[str]) -> None:
    if unknown := [option for option in options if option not in known]:
        raise ValueError(
            f"method {method!r}: expected options among {', '.join(known) or 'none'}, "
            f"got {', '.join(unknown)}"
        )


def _check_equal(what: str, values: Mapping[str, object]) -> None:
    if len(set(values.values())) > 1:
        found = ", ".join(f"{value!r} of {name}" for name, value in values.items())
        raise ValueError(f"methods: expected {what} alike, got {found}")
