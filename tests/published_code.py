"""Our training step and that of published code, at equal weights: ``published_code.py CLONES``.

Three codes are imported from clones of their repositories. They train WRN-16-2 from WRN-28-4
(setup (c) of the paper): Heo et al.'s own code and mdistiller with Overhaul, RepDistiller, which
has no Overhaul, with KD. Networks and losses are theirs; the lines that take a step follow theirs,
including the synchronizations that their averages need. Before a code is timed, its loss must
equal ours.
"""

from __future__ import annotations

import copy
import importlib
import os
import re
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from tqdm.auto import tqdm

from spectralkd.bench import (
    Timing,
    cpu_has_bf16,
    peak_mebibytes,
    random_images,
    ratios,
    seconds_of_a_step,
)
from spectralkd.data.images import CIFAR_MEAN, CIFAR_STD, ImageArray
from spectralkd.figures.tables import format_table
from spectralkd.losses.base import Phase
from spectralkd.losses.distiller import Distiller
from spectralkd.losses.overhaul import Overhaul
from spectralkd.models import create_model
from spectralkd.training.recipes import Precision, get_recipe

# Address and the commit that was measured.
REPOSITORIES = {
    "overhaul-distillation": (
        "https://github.com/clovaai/overhaul-distillation",
        "76344a84a7ce23c894f41a2e05b866c9b73fd85a",
    ),
    "RepDistiller": (
        "https://github.com/HobbitLong/RepDistiller",
        "b84f547c5db6a35318d4671d7d5c4de74c822403",
    ),
    "mdistiller": (
        "https://github.com/megvii-research/mdistiller",
        "a08d46f10d6102bd6e3f258ca5ac880b020ea259",
    ),
}


@dataclass
class _Published:
    """A published code and ours at the same weights.

    Attributes:
        step: its training step on images (N, 3, 32, 32) and labels (N,); the loss.
        workers, padding: of its data loader (no more than there are cores) and of the images there.
        distiller: ours.
    """

    step: Callable[[Tensor, Tensor], float]
    workers: int
    padding: str
    distiller: Distiller


def bench_published_code(
    clones: str | Path, rounds: int = 3, batch: int = 64, steps: int | None = None
) -> list[Timing]:
    """Time a training step of setup (c) of each peer over ours, on what accelerate finds.

    Ours is the training loop with its batches and augmentation. Theirs is measured on a prepared
    batch, and with their data loader. The images are random.

    Args:
        clones: folder of the clones of ``REPOSITORIES``, by their names.
        rounds: number of rounds.
        batch: images a step.
        steps: steps timed together; default: 5 on a CPU and 100 on an accelerator.

    Raises:
        FileNotFoundError: a clone is missing; says how to make it.
        RuntimeError: the losses differ by more than 1e-4 (relative).
    """
    device = PartialState().device
    steps = steps or (5 if device.type == "cpu" else 100)
    for name, (address, _) in REPOSITORIES.items():
        if not (place := Path(clones) / name).is_dir():
            raise FileNotFoundError(f"clones: no folder {place}; git clone {address} {place}")
    data = random_images(batch * (steps + 1))
    two = data.select(torch.arange(2 * batch))
    makers: dict[str, Callable[[Path, torch.device], _Published]] = {
        "overhaul-distillation": _heo,
        "overhaul-distillation, teacher frozen": partial(_heo, frozen=True),
        "RepDistiller": _rep,
        "mdistiller": _md,
    }
    timings = []
    for name, make in makers.items():
        torch.manual_seed(0)
        peer = make(Path(clones) / name.split(",")[0], device)
        images, targets = (part.to(device) for part in next(iter(data.batches(batch))))
        # As their loaders lay them out: channels last would go on through their networks.
        images = images.contiguous()
        loss = _equal_loss(name, peer, images, targets)
        ready = [(images, targets)] * (steps + 1)
        loader = _loader(peer, data, batch)
        seconds: dict[str, list[float]] = {}
        for _ in tqdm(range(rounds), desc=name, leave=False):
            taken = {
                "spectralkd": _our_seconds(peer, data, batch, "auto"),
                name: _their_seconds(peer.step, ready, device),
                f"{name}, with its loader": _their_seconds(peer.step, loader, device),
            }
            if cpu_has_bf16():
                taken["spectralkd, bf16"] = _our_seconds(peer, data, batch, "bf16")
            for call, value in taken.items():
                seconds.setdefault(call, []).append(value)
        method = type(peer.distiller.method).__name__
        memory = {
            "spectralkd": peak_mebibytes(
                partial(_our_seconds, peer, two, batch, "auto"), device.type
            ),
            name: peak_mebibytes(partial(peer.step, images, targets), device.type),
        }
        size = f"step, {method}, batch {batch}, loss {loss:.3f}"
        timings += [replace(t, mebibytes=memory.get(t.what)) for t in ratios(seconds, size)]
    return timings


def _heo(clone: Path, device: torch.device, frozen: bool = False) -> _Published:
    """Their teacher is in training mode, and in the graph unless it is frozen."""
    network = _module("heo_models", clone / "CIFAR-100/models", "WideResNet").WideResNet
    theirs = _networks(network, device)
    theirs[0].requires_grad_(not frozen)
    distiller = _module("heo", clone / "CIFAR-100", "distiller").Distiller(*theirs).to(device)
    optimizer = _sgd([*theirs[1].parameters(), *distiller.Connectors.parameters()])

    def step(images: Tensor, labels: Tensor) -> float:
        optimizer.zero_grad()
        logits, distance = distiller(images)
        cross_entropy = functional.cross_entropy(logits, labels)
        loss = cross_entropy + distance.sum() / len(images) / 1000
        loss.backward()
        optimizer.step()
        cross_entropy.item()
        (logits.argmax(1) == labels).sum().item()
        return loss.item()

    ours = _ours("overhaul", theirs, distiller.Connectors)
    return _Published(step, 4, "reflect", ours)


def _rep(clone: Path, device: torch.device) -> _Published:
    """RepDistiller's KD, with the weights its README gives."""
    network = _module("rep_models", clone / "models", "wrn").WideResNet
    teacher, student = _networks(network, device)
    divergence = _module("rep_zoo", clone / "distiller_zoo", "KD").DistillKL(4)
    optimizer = _sgd(student.parameters())
    teacher.eval()

    def step(images: Tensor, labels: Tensor) -> float:
        _, logits = student(images, is_feat=True, preact=False)
        with torch.no_grad():
            _, target = teacher(images, is_feat=True, preact=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it asks for a sum in an old way
            softened = divergence(logits, target)
        loss = 0.1 * functional.cross_entropy(logits, labels) + 0.9 * softened
        _accuracies(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return _Published(step, 8, "constant", _ours("kd", [teacher, student]))


def _md(clone: Path, device: torch.device) -> _Published:
    """Its Overhaul has the teacher in evaluation mode; ours then has it, too."""
    network = _module("md_models", clone / "mdistiller/models/cifar", "wrn").WideResNet
    theirs = _networks(network, device)
    weights = types.SimpleNamespace(CE_WEIGHT=1.0, FEAT_WEIGHT=1e-3)
    connector = types.SimpleNamespace(KERNEL_SIZE=1)
    options = types.SimpleNamespace(OFD=types.SimpleNamespace(LOSS=weights, CONNECTOR=connector))
    code = _module("md", clone / "mdistiller/distillers", "OFD")
    distiller = code.OFD(theirs[1], theirs[0], options).to(device)
    optimizer = _sgd(distiller.get_learnable_parameters())
    theirs[0].eval()

    def step(images: Tensor, labels: Tensor) -> float:
        optimizer.zero_grad()
        logits, terms = distiller(image=images, target=labels)
        loss = sum(term.mean() for term in terms.values())
        loss.backward()
        optimizer.step()
        _accuracies(logits, labels)
        return loss.item()

    ours = _ours("overhaul", theirs, distiller.connectors.connectors, _WithRunningStatistics)
    return _Published(step, 2, "constant", ours)


class _WithRunningStatistics(Overhaul):
    phases = (Phase("train"),)


def _networks(
    network: Callable[[int, int, int], nn.Module], device: torch.device
) -> list[nn.Module]:
    """Teacher and student, with batch norms that are not all alike."""
    networks = [network(28, 100, 4), network(16, 100, 2)]
    for net in networks:
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
        net.to(device).train()
    return networks


def _ours(
    name: str,
    theirs: list[nn.Module],
    connectors: nn.Module | None = None,
    overhaul: type[Overhaul] = Overhaul,
) -> Distiller:
    """Ours with their weights."""
    models = []
    for model, network in zip(("wrn28_4", "wrn16_2"), theirs, strict=True):
        ours = create_model(model)
        ours.load_state_dict({_our_name(k): v for k, v in network.state_dict().items()})
        models.append(ours.to(next(network.parameters()).device))
    teacher, student = models
    distiller = Distiller(teacher, student, name if connectors is None else overhaul(alpha=1e-3))
    if connectors is not None:
        places = distiller.method.get_submodule("connectors")
        places.load_state_dict(connectors.state_dict())
    return distiller


def _our_name(key: str) -> str:
    """All three codes name the parts of a wide residual network alike."""
    key = re.sub(r"^block(\d)\.layer", r"group\1", key).replace("convShortcut", "shortcut")
    return re.sub(r"^(conv|bn)1\.", r"\1.", key)


def _equal_loss(name: str, peer: _Published, images: Tensor, labels: Tensor) -> float:
    """The loss of the peer's first step, which must be ours."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        ours, theirs = _loss(peer, images, labels), peer.step(images, labels)
    if not abs(ours - theirs) <= 1e-4 * abs(theirs):
        raise RuntimeError(f"{name}: expected our loss to be its {theirs:.6f}, got {ours:.6f}")
    return theirs


def _loss(peer: _Published, images: Tensor, labels: Tensor) -> float:
    """Our loss on a batch, in float32."""
    distiller = copy.deepcopy(peer.distiller).train()
    with torch.no_grad():
        return float(torch.stack(list(distiller(images, labels).values())).sum())


def _our_seconds(peer: _Published, data: ImageArray, batch: int, precision: Precision) -> float:
    """Of a step of our loop; the first epoch warms up."""
    settings = {"epochs": 2, "batch_size": batch, "evaluate_every": 2, "precision": precision}
    recipe = get_recipe("c", "heo", **settings)
    return seconds_of_a_step(copy.deepcopy(peer.distiller), recipe, data)


def _their_seconds(
    step: Callable[[Tensor, Tensor], float],
    batches: Iterable[tuple[Tensor, Tensor]],
    device: torch.device,
) -> float:
    """Of a step, from the end of the first on. Each waits for the device."""
    begun, count = 0.0, -1
    for images, labels in batches:
        step(images.to(device), labels.to(device))
        count += 1
        if count == 0:
            begun = time.perf_counter()
    return (time.perf_counter() - begun) / count


def _accuracies(logits: Tensor, labels: Tensor) -> None:
    best = logits.topk(5).indices == labels[:, None]
    best[:, :1].any(1).float().mean().item()
    best.any(1).float().mean().item()


def _loader(peer: _Published, data: ImageArray, batch: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """A peer's data loader: PIL images, augmented by worker processes."""
    steps = [
        transforms.RandomCrop(32, padding=4, padding_mode=peer.padding),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(CIFAR_MEAN, CIFAR_STD),
    ]
    images = _Cifar(data, transforms.Compose(steps))
    workers = min(peer.workers, os.cpu_count() or 1)
    return DataLoader(images, batch, shuffle=True, num_workers=workers)


class _Cifar(datasets.CIFAR100):
    """torchvision's CIFAR-100, of other images."""

    def __init__(self, data: ImageArray, transform: Callable[[Any], Tensor]) -> None:
        self.data, self.targets = data.images.numpy(), data.labels.tolist()
        self.transform, self.target_transform = transform, None


def _sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)


def _module(package: str, folder: Path, name: str) -> Any:
    """``name`` of a folder, as a module of a package that is nothing but this folder.

    A clone's own packages import much that is not needed, and share names such as ``models``.
    """
    alias = f"spectralkd_published_{package}"
    parent = types.ModuleType(alias)
    parent.__path__ = [str(folder)]
    sys.modules[alias] = parent
    return importlib.import_module(f"{alias}.{name}")


if __name__ == "__main__":
    timings = bench_published_code(sys.argv[1])
    rows = [(t.what, t.input, f"{1e3 * t.seconds:.1f}", f"{t.ratio:.2f}") for t in timings]
    print(format_table(("call", "input", "ms", "ratio"), rows))
