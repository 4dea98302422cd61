"""Any method in a training loop of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from spectralkd.losses.base import Method, Phase, Reading, Taps
from spectralkd.losses.sum import make_method, method_name
from spectralkd.losses.taps import Pairs, Reads, Resize, margins, paired_layers, read_layers
from spectralkd.models.features import FeatureReader, Statistics, evaluation
from spectralkd.models.layout import Layouts

# Logits and the maps of layers, for each mode of the teacher's batch norms.
TeacherPasses = dict[Statistics, tuple[Tensor, dict[str, Tensor]]]


class Distiller(nn.Module):
    """A teacher, a student and a method; calling it gives the named terms of the loss.

    It owns the hooks on both networks, the method's connectors and the mode of the teacher's
    batch norms, and works under ``accelerate.prepare``, autocast and ``torch.compile``::

        distiller = Distiller(teacher, student, "spectral")
        optimizer = torch.optim.SGD(distiller.trainable_parameters(), lr=0.1)
        for images, labels in loader:
            loss = sum(distiller(images, labels).values())
            loss.backward(); optimizer.step(); optimizer.zero_grad()

    Methods that train in several phases (FT, AB, FitNets in two stages) begin with the first::

        for phase in distiller.phases:
            distiller.begin(phase)
            ...  # a new optimizer, and phase.epochs epochs

    Args:
        teacher: not changed; it is not in ``parameters`` and ``state_dict``, but ``to`` moves
            it. None for a method that needs no teacher. Margins are read from its
            batch norms at once: load its weights first.
        student: trained in place.
        method: a name of ``METHODS``, ``"package.module:Class"``, or an instance, which belongs
            to this distiller alone; for a sum of several, their names joined by ``+``, or their
            options by their names.
        layers: pairs of a teacher's and a student's layer, one for each stage, for methods that
            read maps (others use neither these nor layout and resize); default: those of the
            networks' stage tables, see ``models.model_stages``.
        layout: as ``models.layout.find_layouts``, of the layers of both networks.
        resize: how the larger map of a stage comes to the size of the smaller: ``"pool"``
            averages over it, ``"bilinear"`` interpolates with antialiasing; default: sizes that
            differ are refused.
        image_shape: (3, H, W) of the images to come; default: what the networks say in their
            attribute ``image_shape``, or (3, 32, 32). Not used by methods of logits.
        images: (N, 3, H, W), some hundreds of those to come. The margins of a teacher's map that
            no batch norm gives are measured over them; not needed otherwise.
        options: the method's own arguments, where it is given by name; those of a sum's methods
            as dicts by their names.

    Attributes:
        tapped: the layers that are read, of the teacher (if there is one) and of the student.

    Raises:
        ValueError: no such method or option, networks that the method cannot compare, images
            that they do not take, layers that do not exist or give no maps; margins to be
            measured without ``images``; a student without parameters.
        TypeError: what is no network or no method; a network without a stage table where
            ``layers`` is omitted, or a stage's norm that is no batch norm.
    """

    method: Method
    student: nn.Module
    teacher: nn.Module | None

    def __init__(
        self,
        teacher: nn.Module | None,
        student: nn.Module,
        method: str | Mapping[str, Mapping[str, Any]] | Method = "spectral",
        *,
        layers: Pairs | None = None,
        layout: Layouts = None,
        resize: Resize | None = None,
        image_shape: tuple[int, int, int] | None = None,
        images: Tensor | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        for side, network in (("teacher", teacher), ("student", student)):
            if not (isinstance(network, nn.Module) or (side == "teacher" and network is None)):
                raise TypeError(f"{side}: expected a network, got {network!r}")
        if isinstance(method, Method) and options:
            raise ValueError(
                f"options: expected none beside an instance of {type(method).__name__}, which has "
                f"its own; got {', '.join(options)}"
            )
        self.method = method if isinstance(method, Method) else make_method(method, options)
        self.student = student
        if teacher is None and self.method.needs_teacher:
            raise ValueError(f"teacher: {method_name(self.method)} needs one, got None")
        # Around nn.Module's registration: the teacher is neither trained nor saved.
        self.__dict__["teacher"] = teacher if self.method.needs_teacher else None
        networks = [network for network in (self.teacher, student) if network is not None]
        if images is None:
            known = (getattr(network, "image_shape", None) for network in networks)
            shape = image_shape or next(filter(None, known), (3, 32, 32))
        else:
            shape = tuple(images.shape[1:])
        # As given, for the configuration of a run.
        self.connection = given(layers=layers, layout=layout, resize=resize)
        self.tapped = paired_layers(networks, self.method.reads, layers)
        self._reads = [Reads() for _ in networks]
        if self.method.reads is not None:
            sample = torch.zeros(2, *shape)
            self._reads = read_layers(networks, self.tapped, sample, layout=layout, resize=resize)
        taps = [Taps(reads.shapes) for reads in self._reads]
        if self.method.needs_margins:
            taps[0] = taps[0]._replace(margins=margins(networks[0], self._reads[0], images))
        self.method.build(taps[0], taps[-1])
        example = next(student.parameters(), None)
        if example is None:
            raise ValueError(f"student: expected parameters to train, got {student!r}")
        self.method.to(example.device)
        if example.dtype == torch.float64:
            self.method.double()
        self._readers = [
            FeatureReader(network, own) for network, own in zip(networks, self.tapped, strict=True)
        ]
        # Teacher's pass; student's pass with the loss: what ``compile`` replaces.
        self._passes: tuple[Callable[..., Any], ...] = (self._readers[0], self.terms)
        self._required = [parameter.requires_grad for parameter in student.parameters()]
        _check_phases(self.phases)
        self.begin(self.phases[0])

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The parts of training, in order; most methods have one."""
        return self.method.phases

    def begin(self, phase: Phase) -> None:
        """Start a phase: its parameters require gradients, and no others do."""
        self.phase = phase
        trained = set(self.trainable_parameters())
        for parameter in (*self.student.parameters(), *self.method.parameters()):
            parameter.requires_grad_(parameter in trained)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What the present phase trains: of the student what was not frozen, and of the method."""
        own = list(self.method.trainable_parameters(self.phase.name))
        if not self.phase.student:
            return own
        students = zip(self.student.parameters(), self._required, strict=True)
        return [parameter for parameter, required in students if required] + own

    def forward(
        self, images: Tensor, labels: Tensor, teacher: Reading | None = None
    ) -> dict[str, Tensor]:
        """Weighted terms of the loss by name, scalars; the loss is their sum.

        Args:
            images: (N, 3, H, W).
            labels: (N,) int64.
            teacher: what ``read_teacher`` made of the same images, where it is at hand.
        """
        if teacher is None:
            teacher = self.read_teacher(images)
        return self._passes[1](images, labels, teacher)

    def read_teacher(self, images: Tensor, passes: TeacherPasses | None = None) -> Reading:
        """What the teacher makes of images, its batch norms in the phase's mode.

        Args:
            images: (N, 3, H, W).
            passes: what the teacher made of these very images for other distillers, which is
                used and added to; see ``share_teacher``.
        """
        if self.teacher is None:
            return Reading.absent(images)
        statistics = self.phase.teacher_statistics
        if self.method.needs_image_gradient:  # a graph of its own for each student
            images, passes = images.detach().requires_grad_(), None
        known = passes if passes is not None else {}
        if statistics not in known:
            # Made within the statement: it takes effect at once, also where evaluation refuses.
            with (
                evaluation(self.teacher, statistics),
                torch.set_grad_enabled(self.method.needs_image_gradient),
            ):
                known[statistics] = self._passes[0](images)
        logits, maps = known[statistics]
        return Reading(images, logits, self._reads[0].maps(maps))

    def terms(self, images: Tensor, labels: Tensor, teacher: Reading) -> dict[str, Tensor]:
        """The student's pass and the loss; as ``forward``, but never compiled."""
        student = Reading.absent(images)
        if self.phase.student:
            kernels: AbstractContextManager[Any] = nullcontext()
            if self.method.needs_image_gradient:
                images = images.detach().requires_grad_()
                # The only attention that can be differentiated twice.
                kernels = sdpa_kernel(SDPBackend.MATH)
            with kernels:
                logits, maps = self._readers[-1](images)
            student = Reading(images, logits, self._reads[-1].maps(maps))
        return self.method(teacher, student, labels, self.phase.name)

    def compile(self, *args: Any, batch_size: int | None = None, **kwargs: Any) -> None:
        """Compile separately the teacher's pass, and the student's pass with the loss.

        Args:
            batch_size: batches of another size run uncompiled: the last, smaller one of an epoch
                would be compiled again.
            args, kwargs: as ``torch.compile``.
        """

        def compiled(call: Callable[..., Any]) -> Callable[..., Any]:
            fast = torch.compile(call, *args, **kwargs)

            def choose(images: Tensor, *others: Any) -> Any:
                whole = batch_size is None or len(images) == batch_size
                return (fast if whole else call)(images, *others)

            return choose

        self._passes = (compiled(self._readers[0]), compiled(self.terms))

    def close(self) -> None:
        """Take the hooks off both networks and let the student require gradients as before.

        Distillers that share a teacher (``share_teacher``) are closed together.
        """
        for reader in self._readers:
            reader.remove()
        for parameter, required in zip(self.student.parameters(), self._required, strict=True):
            parameter.requires_grad_(required)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Distiller:
        super()._apply(fn, recurse)
        if self.teacher is not None:
            self.teacher._apply(fn, recurse)
        return self


def share_teacher(distillers: Sequence[Distiller]) -> None:
    """Read the teacher of several distillers by one set of hooks.

    One pass then serves all of them, where ``read_teacher`` is given the same ``passes``. Call
    it before any of them is compiled.

    Raises:
        ValueError: the distillers have different teachers.
    """
    taught = [d for d in distillers if d.teacher is not None]
    if any(d.teacher is not taught[0].teacher for d in taught):
        raise ValueError("distillers: expected one teacher, the same object, got several")
    if len(taught) < 2:
        return
    for distiller in taught:
        distiller._readers[0].remove()
    layers = dict.fromkeys(layer for distiller in taught for layer in distiller.tapped[0])
    shared = FeatureReader(taught[0]._readers[0].model, tuple(layers))
    for distiller in taught:
        distiller._readers[0] = shared
        distiller._passes = (shared, distiller._passes[1])


def _check_phases(phases: Sequence[Phase]) -> None:
    if not phases or not all(isinstance(phase, Phase) for phase in phases):
        raise TypeError(f"method: expected phases to be a tuple of Phase, got {phases!r}")
    for name, epochs, *_ in phases:
        whole = isinstance(epochs, Integral) and not isinstance(epochs, bool)
        if epochs is not None and not (whole and epochs >= 0):
            raise ValueError(
                f"method: expected a whole number of epochs, or None, in the phase {name!r}, got "
                f"{epochs!r}"
            )


def given(**arguments: Any) -> dict[str, Any]:
    """Those of the arguments that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}
