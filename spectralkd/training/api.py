"""Train a network, distill a teacher into a student, or do either with networks of your own.

The same call trains on a CPU, a GPU or, under ``accelerate launch``, on several.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import nn

from spectralkd.data import Split, load_data
from spectralkd.data.augmentation import check_batch_size
from spectralkd.data.images import ImageArray, ImageData, ImageFiles, first_image, hold_out, suited
from spectralkd.losses.base import Method, chosen_options, kept_options
from spectralkd.losses.distiller import Distiller, given
from spectralkd.losses.options import named_options, with_recipe
from spectralkd.losses.sum import Sum, make_method, method_name
from spectralkd.losses.taps import Pairs, Resize, paired_layers
from spectralkd.models import create_model, pretrained_file, pretrained_names, stage_outputs
from spectralkd.models.features import check_layers
from spectralkd.models.layout import Layouts
from spectralkd.models.weights import load_weights, weights_digest
from spectralkd.training.accelerator import make_accelerator
from spectralkd.training.evaluate import check_logits
from spectralkd.training.lock import locked
from spectralkd.training.loop import Loop
from spectralkd.training.recipes import FREE_FIELDS, Recipe
from spectralkd.training.run_folder import Run, file_digest, is_json
from spectralkd.training.together import run_together

MARGIN_IMAGES = 256

_DATA = ("data", "root", "image_size", "train_images", "validation_images", "holdout")

# Fields of a recipe that ``fit`` does not use: networks, data and loss are passed to it.
_NOT_FITTED = (*_DATA, "mixup", "teacher_model", "student_model", "alpha", "beta", "gamma")

# What the batches that a student sees depend on, and how they pass through the networks.
_BATCHES = (*_DATA, "batch_size", "seed", "precision", "compile")


def train(
    recipe: Recipe,
    run: str | Path,
    *,
    role: Literal["teacher", "student"] = "teacher",
    tracker: str | None = None,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> Run:
    """Train a recipe's teacher, or its student alone (the baseline), by cross-entropy.

    Args:
        recipe: see ``recipes.get_recipe``.
        run: folder. An unfinished run of the same configuration in it is resumed; a finished
            one is returned as it is.
        role: which network.
        tracker: one of accelerate's, such as ``"tensorboard"``; by default none.
        progress: show a progress bar.
        stop: asked after each step; once it returns True, in any process, the run saves its state
            and raises ``Stopped``.

    Raises:
        Stopped: see ``stop``.
        ValueError: a wrong setting, a run of another configuration in the folder, or one of
            another number of processes; ``InUse``, another process works in it. Nothing is
            written before all settings were checked.
        FloatingPointError: a term of the loss is not finite: its name, epoch and step.
        OSError: a file cannot be written; the last good checkpoint stays.
        RuntimeError: several processes were asked for and one was started.
    """
    accelerator = make_accelerator(recipe, run, tracker)
    name = recipe.teacher_model if role == "teacher" else recipe.student_model
    config = _config(recipe, role, name, "baseline", {})
    folder = _compared(run, config)
    if folder.finished:
        return folder
    training, validation = _load_both(recipe, accelerator)
    torch.manual_seed(recipe.seed)
    network = create_model(name, len(training.classes))
    training, validation = (suited(d, network, recipe.image_size) for d in (training, validation))
    distiller = Distiller(None, network, "baseline")
    loop = Loop(distiller, validation, recipe, folder, accelerator)
    mixup = recipe.mixup if role == "teacher" else 0.0
    _run([(loop, config)], training, progress, stop, mixup)
    return folder


def distill(
    recipe: Recipe,
    run: str | Path,
    *,
    method: str | Mapping[str, Mapping[str, Any]] = "spectral",
    teacher: str | Path | None = None,
    options: dict[str, Any] | None = None,
    layers: Pairs | None = None,
    layout: Layouts = None,
    resize: Resize | None = None,
    tracker: str | None = None,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> Run:
    """Distill a recipe's teacher into its student.

    Both see the images as the teacher takes them: a network of a zoo has its own normalization.

    Args:
        recipe, run, tracker, progress, stop: as ``train``.
        method: one of ``losses.METHODS``, or ``"package.module:Class"``; a sum as ``Distiller``.
        teacher: a finished run's folder, a file of weights, or the name of those of the recipe's
            teacher that come with the package, such as ``"cifar100"`` of wrn28_4 (for data of
            CIFAR-100's classes in their order); if omitted and needed, the recipe's teacher is
            trained first, in the folder ``teacher`` of the run.
        options: the method's own arguments; they override what it takes from the recipe
            (``Method.of_recipe``), such as alpha.
        layers, layout, resize: as ``Distiller``. Margins that no batch norm gives are measured
            over 256 of the training images.

    Raises:
        as ``train``; also ValueError where the teacher is none, unfinished, of another network or
            of other classes, or omitted where the run began with one;
            TypeError, ``method`` is neither a name nor options by name.
    """
    if isinstance(method, Mapping):
        options = {**method, **(options or {})}
        method = "+".join(options)
        options = options[method] if len(options) == 1 else options
    connection = given(layers=layers, layout=layout, resize=resize)
    student = StudentRun(recipe, run, method, options or {}, connection)
    watched: dict[str, Any] = {"tracker": tracker, "progress": progress, "stop": stop}
    if teacher is None:
        teacher = train_teacher([student], Path(run) / "teacher", **watched)
    (made,) = distill_together([student], teacher, **watched)
    return made


@dataclass(frozen=True)
class StudentRun:
    """One of several students of a teacher; fields as the arguments of ``distill``, but for:

    Attributes:
        connection: ``layers``, ``layout`` and ``resize``, where they are given.
    """

    recipe: Recipe
    run: str | Path
    method: str = "spectral"
    options: dict[str, Any] = field(default_factory=dict)
    connection: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.method, str):
            raise TypeError(
                f"method: expected a name, with its options beside it, got {self.method!r}; an "
                f"instance goes into a Distiller, which fit trains"
            )

    @property
    def all_options(self) -> dict[str, Any]:
        """The method's options, and the recipe's, such as alpha, where they are not given."""
        return with_recipe(self.method, self.options, vars(self.recipe))

    def made(self) -> Method:
        """The method with its options."""
        return make_method(self.method, self.all_options)

    def config(self) -> dict[str, Any]:
        """The run's configuration, but for the teacher's digest."""
        method, options, recipe = self.made(), self.all_options, self.recipe
        config = _config(recipe, "distill", recipe.student_model, self.method, options)
        every = method.methods if isinstance(method, Sum) else kept_options(method)
        known = named_options(options)
        # Another version of a method may have other ones.
        config["defaults"] = {
            name: value
            for name, value in named_options(every).items()
            if name not in known and is_json(value)
        }
        return config | self.connection


def train_teacher(
    students: Sequence[StudentRun],
    run: str | Path,
    *,
    tracker: str | None = None,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> Path | None:
    """Train the teacher of students that are then distilled, if one of them needs it.

    What is wrong with the students is found before.

    Args:
        students: as ``distill_together``. The teacher has the first one's seed, or that of the
            run which is in the folder.
        run: folder of the teacher's run; it is resumed, or taken as it is.
        tracker, progress, stop: as ``train``.

    Returns:
        The folder, or None where no method needs a teacher.

    Raises:
        as ``distill_together``.
    """
    check_students(students)
    needing = [student for student in students if student.made().needs_teacher]
    if not needing:
        return None
    recipe, begun = students[0].recipe, Run(run)
    if begun.config_file.is_file():
        recipe = replace(recipe, seed=begun.read_config()["recipe"]["seed"])
    for student in students:
        folder = _compared(student.run, student.config())
        known = folder.read_config() if folder.config_file.is_file() else {}
        if "teacher_sha256" in known and not begun.finished:
            raise ValueError(f"teacher: expected the one that {folder.path} began with, got None")
    if not begun.finished:
        training, _ = _load_both(recipe, make_accelerator(recipe, run, tracker))
        untrained = create_model(recipe.teacher_model, len(training.classes))
        training = suited(training, untrained, recipe.image_size)
        for student in needing:  # does it fit the maps of these images?
            _distiller(student, untrained, training).close()
    return train(recipe, run, tracker=tracker, progress=progress, stop=stop).path


def distill_together(
    students: Sequence[StudentRun],
    teacher: str | Path | None,
    *,
    tracker: str | None = None,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> list[Run]:
    """Distill one teacher into several students.

    Students that see the same batches (of one seed, batch size and data set) are trained side by
    side, behind one pass of the teacher; the others one after another. Each run is what
    ``distill`` makes of it alone, on a CPU to the last bit.

    Args:
        students: one or more; their recipes name one teacher.
        teacher: as ``distill``; None where no method needs one.
        tracker, progress, stop: as ``train``.

    Raises:
        as ``distill``; ValueError, a teacher is needed and None. A run whose loss is not finite
        ends; the others go on.
    """
    check_students(students)
    weights = None
    if teacher is not None:
        weights = _teacher_weights(teacher, students[0].recipe.teacher_model)
    elif needing := [s.method for s in students if s.made().needs_teacher]:
        raise ValueError(f"teacher: {needing[0]} needs one, got None")
    about_teacher = {"teacher_sha256": file_digest(weights)} if weights else {}
    waiting: dict[tuple[Any, ...], list[tuple[StudentRun, Run, dict[str, Any]]]] = defaultdict(list)
    runs = []
    for student in students:
        recipe = student.recipe
        make_accelerator(recipe, student.run, tracker)  # refuses what this machine has not
        config = student.config() | about_teacher
        folder = _compared(student.run, config)
        runs.append(folder)
        if not folder.finished:
            batches = tuple(getattr(recipe, name) for name in _BATCHES)
            waiting[batches].append((student, folder, config))
    failures = []
    for group in waiting.values():
        recipe = group[0][0].recipe
        # Made for this group: accelerators of one process share their precision.
        accelerators = [
            make_accelerator(student.recipe, student.run, tracker) for student, *_ in group
        ]
        training, validation = _load_both(recipe, accelerators[0])
        teacher_model = create_model(recipe.teacher_model, len(training.classes))
        if weights:
            try:
                load_weights(teacher_model, weights)
            except ValueError as error:
                raise ValueError(
                    f"teacher: expected one of the {len(training.classes)} classes of "
                    f"{recipe.data}; {error}"
                ) from error
        training, validation = (
            suited(data, teacher_model, recipe.image_size) for data in (training, validation)
        )
        loops = []
        for (student, folder, config), accelerator in zip(group, accelerators, strict=True):
            distiller = _distiller(student, teacher_model, training)
            loop = Loop(distiller, validation, student.recipe, folder, accelerator)
            loops.append((loop, config))
        try:
            _run(loops, training, progress, stop)
        except FloatingPointError as error:
            failures.append(str(error))
    if failures:
        raise FloatingPointError("; ".join(failures))
    return runs


def check_students(students: Sequence[StudentRun]) -> None:
    """Refuse what can be refused of students before their teacher is there.

    Raises:
        ValueError: recipes of several teachers; an unknown method, network or layer, or a wrong
            option; layers of a method that reads none; networks of different numbers of stages.
        TypeError: a network without a stage table, and no layers.
    """
    networks = {student.recipe.teacher_model for student in students}
    if len(networks) != 1:
        raise ValueError(f"students: expected recipes of one teacher, got {sorted(networks)}")
    teacher = create_model(networks.pop(), 2)
    for student in students:
        network = create_model(student.recipe.student_model, 2)
        layers = student.connection.get("layers")
        method = student.made()
        if method.reads is None and student.connection:
            unused = ", ".join(student.connection)
            raise ValueError(f"{unused}: expected none of {student.method}, which reads no maps")
        pairs = paired_layers((teacher, network), method.reads, layers)
        for side, names in zip((teacher, network), pairs, strict=True):
            if names:
                check_layers(side, names)
        layout = student.connection.get("layout")
        known = dict(teacher.named_modules())
        for layer in layout if isinstance(layout, dict) else ():
            if layer.partition(":")[0] not in known:
                check_layers(network, [layer])


def _distiller(student: StudentRun, teacher: nn.Module, training: ImageData) -> Distiller:
    torch.manual_seed(student.recipe.seed)
    network = create_model(student.recipe.student_model, len(training.classes))
    method = student.made()
    count = MARGIN_IMAGES if method.needs_margins else 1
    images, _ = next(iter(training.subset(count).batches(count)))
    return Distiller(teacher, network, method, images=images, **student.connection)


def fit(
    distiller: Distiller,
    training: ImageData,
    validation: ImageData,
    recipe: Recipe,
    run: str | Path,
    *,
    name: str = "custom",
    tracker: str | None = None,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> Run:
    """Train the student of a distiller, on networks and data of your own.

    Args:
        distiller: its student is trained in place, and has the trained weights also where the
            run was finished before.
        training, validation: see ``data``.
        recipe: its networks, data set, mixup and loss weights are not used.
        run, tracker, progress, stop: as ``train``.
        name: of the student, for the run's configuration.

    Raises:
        as ``train``. The method and its options belong to the configuration, and so do the
        teacher's weights and the sizes of student and data; TypeError, data of another kind.
    """
    for what, data in (("training", training), ("validation", validation)):
        if not isinstance(data, ImageData):
            raise TypeError(
                f"{what}: expected an ImageArray or ImageFiles, got {type(data).__name__}"
            )
    _check_classes(training, validation)
    accelerator = make_accelerator(recipe, run, tracker)
    method = distiller.method
    config = _config(recipe, "custom", name, method_name(method), chosen_options(method))
    config["recipe"] = {k: v for k, v in config["recipe"].items() if k not in _NOT_FITTED}
    config["parameters"] = sum(p.numel() for p in distiller.student.parameters())
    config["images"] = [len(training), len(validation)]
    if distiller.teacher is not None:
        config["teacher_sha256"] = weights_digest(distiller.teacher)
    config |= distiller.connection
    folder = _compared(run, config)
    if not folder.finished:
        check_batch_size(recipe.batch_size, len(training), accelerator.num_processes)
        loop = Loop(distiller, validation, recipe, folder, accelerator)
        _run([(loop, config)], training, progress, stop)
        if loop.finished:
            return folder
    load_weights(distiller.student, folder.weights_file)
    return folder


def _compared(path: str | Path, config: dict[str, Any]) -> Run:
    folder = Run(path)
    folder.compare(config, FREE_FIELDS)
    return folder


def _run(
    loops: Sequence[tuple[Loop, dict[str, Any]]],
    training: ImageData,
    progress: bool,
    stop: Callable[[], bool] | None,
    mixup: float = 0.0,
) -> None:
    """Run loops to their ends, each with its configuration, in folders that are theirs alone."""
    accelerator = loops[0][0].accelerator
    for loop, _ in loops:
        _check_student(loop)
    with ExitStack() as stack:
        if accelerator.is_main_process:
            for loop, config in loops:
                stack.enter_context(locked(loop.folder.path, stops=stop is not None))
                loop.folder.claim(config, FREE_FIELDS, accelerator.num_processes)
        accelerator.wait_for_everyone()
        # Another process may have finished a run while this one was getting ready.
        if unfinished := [loop for loop, _ in loops if not loop.folder.finished]:
            run_together(unfinished, training, mixup=mixup, progress=progress, stop=stop)


def _check_student(loop: Loop) -> None:
    """Refuse a network that does not take the images, or gives no logits of their classes."""
    if not len(loop.validation):
        raise ValueError("validation: expected at least one image, got none")
    student, images = loop.distiller.student, first_image(loop.validation)
    try:
        with torch.no_grad(), loop.accelerator.autocast():
            logits = student.eval()(images.to(loop.accelerator.device))
    except Exception as error:  # a network says in its own way what it does not take
        raise ValueError(
            f"student: expected a network that takes images of {tuple(images.shape[1:])}, got "
            f"{type(student).__name__}: {error}"
        ) from error
    check_logits("student", logits, len(loop.validation.classes))
    if loop.recipe.spectra_every and (outputs := stage_outputs(student)):
        check_layers(student, outputs)


def _config(
    recipe: Recipe, role: str, network: str, method: str, options: dict[str, Any]
) -> dict[str, Any]:
    return {
        "role": role,
        "network": network,
        "method": method,
        "options": options,
        "recipe": asdict(recipe),
    }


def _load_both(recipe: Recipe, accelerator: Accelerator) -> tuple[ImageData, ImageData]:
    """Training and validation images; the latter out of the former where some are held out."""

    def load(split: Split) -> ImageData:
        return load_data(recipe.data, split, root=recipe.root, image_size=recipe.image_size)

    with accelerator.main_process_first():
        training = load("train")
        if recipe.holdout:
            training, validation = hold_out(training, recipe.holdout)
        else:
            validation = load("validation")
    _check_classes(training, validation)
    if len(training.classes) < 2:
        raise ValueError(
            "data: expected at least two classes to train on, got 1; imagefolder takes one folder "
            "a class"
        )
    if not recipe.holdout and _files(training) == _files(validation) is not None:
        raise ValueError(
            f"root: expected folders train and val, or holdout= of the images, got "
            f"{recipe.root!r}, whose images would be trained on and evaluated"
        )
    if recipe.train_images:
        training = training.subset(recipe.train_images)
    if recipe.validation_images:
        validation = validation.subset(recipe.validation_images)
    if isinstance(validation, ImageArray):
        validation = validation.to(accelerator.device)  # once for all students
    check_batch_size(recipe.batch_size, len(training), accelerator.num_processes)
    return training, validation


def _check_classes(training: ImageData, validation: ImageData) -> None:
    pairs = itertools.zip_longest(training.classes, validation.classes)
    for number, (own, other) in enumerate(pairs):
        if own != other:
            raise ValueError(
                f"data: expected the same classes in training and validation, got {own!r} and "
                f"{other!r} for label {number}"
            )


def _files(data: ImageData) -> Any:
    """Names and labels of the files of an ``imagefolder``."""
    return getattr(data.dataset, "samples", None) if isinstance(data, ImageFiles) else None


def _teacher_weights(teacher: str | Path, network: str) -> Path:
    """The weights file of a teacher given by that file, by its run or by name."""
    path, named = Path(teacher), pretrained_names(network)
    if path.is_file():
        return path
    run = Run(path)
    if str(teacher) in named and not run.config_file.is_file():  # a folder of data, perhaps
        return pretrained_file(network, str(teacher))
    if not path.is_dir():
        ours = f" (or the package's {' or '.join(named)})" if named else ""
        raise ValueError(f"teacher: expected a run's folder or a file{ours}, got {str(teacher)!r}")
    if not run.finished:
        raise ValueError(f"teacher: {path} is not a finished run; run its command again")
    was = run.read_config()["network"]
    if was != network:
        raise ValueError(f"teacher: expected a {network}, got {path}, a {was}")
    return run.weights_file
