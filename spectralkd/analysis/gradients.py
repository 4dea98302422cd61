"""How strongly each term of a loss pulls at the student's maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spectralkd.losses.distiller import Distiller
from spectralkd.models import model_stages
from spectralkd.models.features import evaluation, first_tensor, model_device


def gradient_norms(
    distiller: Distiller, images: Tensor, labels: Tensor
) -> dict[str, dict[str, float]]:
    """Norm of the gradient of each weighted term by the student's maps of each stage.

    Batch norms of student and connectors use the statistics of the batch, as in training, and
    keep their running ones. No parameter gets a gradient.

    Args:
        distiller: in a phase that trains the student.
        images: (N, 3, H, W).
        labels: (N,) int64.

    Returns:
        By term and by the student's layer: those that the method reads, or, if it reads logits
        alone, the outputs of the network's stages; no layers for a network without stages.
    """
    layers = distiller.layers[-1] or _outputs(distiller.student)
    device = model_device(distiller.student)
    images, labels = images.to(device), labels.to(device)
    teacher = distiller.read_teacher(images)
    with evaluation(distiller, "batch"), torch.enable_grad():
        with _kept(distiller.student, layers) as maps:
            terms = distiller.terms(images, labels, teacher)
        norms = {}
        for name, term in terms.items():
            gradients = torch.autograd.grad(
                term, list(maps.values()), retain_graph=True, allow_unused=True
            )
            norms[name] = {
                layer: 0.0 if gradient is None else float(gradient.float().norm())
                for layer, gradient in zip(maps, gradients, strict=True)
            }
    return norms


def gradient_shares(norms: dict[str, dict[str, float]]) -> dict[str, float]:
    """Each term's part of the sum of all norms, over the maps of all stages together.

    Args:
        norms: as ``gradient_norms`` returns them.
    """
    whole = {name: sum(norm**2 for norm in of.values()) ** 0.5 for name, of in norms.items()}
    total = sum(whole.values()) or 1.0
    return {name: norm / total for name, norm in whole.items()}


def _outputs(student: nn.Module) -> tuple[str, ...]:
    try:
        return tuple(stage.output for stage in model_stages(student))
    except TypeError:
        return ()


@contextmanager
def _kept(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """The very tensors that layers hand on, so that gradients by them hold all that follows."""
    maps: dict[str, Tensor] = {}

    def hand_on(layer: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return (hand_on(layer, value[0]), *value[1:])
        tensor = first_tensor(value)
        assert tensor is not None
        maps[layer] = tensor
        return tensor.clone()  # an in-place layer that follows changes the copy alone

    handles = []
    for layer in layers:
        path, _, port = layer.partition(":")
        module, keep = model.get_submodule(path), partial(hand_on, layer)
        if port == "input":
            handles.append(module.register_forward_pre_hook(lambda _, args, keep=keep: keep(args)))
        else:
            handles.append(
                module.register_forward_hook(lambda _, args, output, keep=keep: keep(output))
            )
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()
