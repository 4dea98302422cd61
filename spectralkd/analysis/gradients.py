"""How strongly each term of a loss pulls at the student's maps."""

from __future__ import annotations

import torch
from torch import Tensor

from spectralkd.losses.distiller import Distiller
from spectralkd.models import stage_outputs
from spectralkd.models.features import altered, evaluation, model_device


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
        alone, the outputs of the network's stages. Empty for a network without stages.
    """
    layers = distiller.tapped[-1] or stage_outputs(distiller.student)
    if not layers:
        return {}
    device = model_device(distiller.student)
    images, labels = images.to(device), labels.to(device)
    teacher = distiller.read_teacher(images)
    with evaluation(distiller, "batch"), torch.enable_grad():
        maps: dict[str, Tensor] = {}

        def keep(layer: str, value: Tensor) -> Tensor:
            maps[layer] = value  # the very tensor that the layer made: all that follows uses it
            return value.clone()  # an in-place layer that follows changes the copy alone

        with altered(distiller.student, layers, keep):
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
