"""One training step of one student: forward, backward, update."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from spectralkd.losses.base import Reading
from spectralkd.losses.distiller import Distiller, TeacherPasses
from spectralkd.training.recipes import Recipe


class Step:
    """Forward, backward and update on one batch.

    Attributes:
        names: of the loss terms of the last batch.
        optimizer: of the distiller's trainable parameters.
    """

    def __init__(self, distiller: Distiller, recipe: Recipe, accelerator: Accelerator) -> None:
        self.distiller, self.accelerator = distiller, accelerator
        self.names: tuple[str, ...] = ()
        optimizer = torch.optim.SGD(
            distiller.trainable_parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=accelerator.device.type == "cuda" or None,
        )
        self.terms, self.optimizer = accelerator.prepare(_Terms(distiller), optimizer)

    def __call__(
        self, images: Tensor, labels: Tensor, passes: TeacherPasses, weight: float = 1.0
    ) -> Tensor:
        """The loss terms (T,) of the batch.

        Args:
            images, labels: as ``Distiller``.
            passes: of the teacher over these images, shared with other students' steps.
            weight: scales the gradient.

        Raises:
            TypeError: the method returned something else than named scalar tensors.
        """
        with self.accelerator.autocast():
            teacher = self.distiller.read_teacher(images, passes)
        terms = self.terms(images, labels, teacher)
        _check_terms(terms)
        self.names = tuple(terms)
        values = torch.stack(list(terms.values()))
        try:
            self.accelerator.backward(values.sum() * weight)
            self.optimizer.step()
        finally:
            self.optimizer.zero_grad()  # also gradients that a failed recording made
        return values.detach()


def _check_terms(terms: object) -> None:
    expected = "method: expected forward to return scalar tensors by name"
    if not isinstance(terms, dict) or not terms:
        raise TypeError(f"{expected}, got {terms!r}")
    for name, value in terms.items():
        if not isinstance(value, Tensor) or value.ndim:
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise TypeError(f"{expected}, got {got} for {name!r}")


class _Terms(nn.Module):
    """A phase's own wrapper: what accelerate puts around ``forward`` leaves with the phase."""

    def __init__(self, distiller: Distiller) -> None:
        super().__init__()
        self.distiller = distiller

    def forward(self, images: Tensor, labels: Tensor, teacher: Reading) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = self.distiller(images, labels, teacher)
        return terms
