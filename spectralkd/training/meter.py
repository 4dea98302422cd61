"""Means of the loss terms over one epoch."""

from __future__ import annotations

import math
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

# What a line of a run's metrics holds beside the terms of the loss.
FIELDS = (
    *("phase", "epoch", "lr", "loss", "top1_error", "top5_error", "nll", "exponents"),
    *("gradients", "images_per_second", "runs", "epochs"),
)


class EpochMeter:
    """Sums loss terms on their device, so that no step waits for it.

    Attributes:
        names: of the terms.
        images: seen by this process in this epoch.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.images = self.steps = 0
        self.sums = self.first_nonfinite = torch.zeros(0)

    def add(self, names: tuple[str, ...], values: Tensor, images: int) -> None:
        """Add a step's terms, (T,), means over ``images``.

        Raises:
            ValueError: a term has the name of another metric; the terms are others than before.
        """
        if self.steps == 0:
            alone = names == ("loss",)  # is the loss
            if taken := [name for name in names if name in FIELDS and not alone]:
                raise ValueError(
                    f"method: expected terms named unlike {', '.join(FIELDS)}, got "
                    f"{', '.join(taken)}"
                )
            self.names = names
            self.sums = torch.zeros_like(values)
            self.first_nonfinite = torch.full_like(values, math.inf)
        if names != self.names:
            raise ValueError(
                f"method: expected the terms {', '.join(self.names)} in every step, as in the "
                f"epoch's first; got {', '.join(names)}"
            )
        self.steps += 1
        self.images += images
        self.sums += values * images
        now = torch.where(torch.isfinite(values), math.inf, float(self.steps))
        self.first_nonfinite = torch.minimum(self.first_nonfinite, now)

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """Mean of each term over the images of all processes."""
        sums = torch.cat([self.sums, self.sums.new_tensor([self.images])])
        *totals, images = accelerator.reduce(sums).tolist()
        return {name: total / images for name, total in zip(self.names, totals, strict=True)}

    def check_finite(self, accelerator: Accelerator, where: str, rest: str) -> None:
        """Raise a FloatingPointError that names the terms that were not finite, and the step.

        Args:
            where: the epoch, in words.
            rest: what is left, in words.
        """
        steps = accelerator.gather(self.first_nonfinite[None]).amin(0).tolist()
        if math.isfinite(step := min(steps)):
            terms = [n for n, first in zip(self.names, steps, strict=True) if first == step]
            raise FloatingPointError(
                f"{where}, step {step:.0f}: the loss term {', '.join(terms)} is not finite; {rest}"
            )

    def state_dict(self) -> dict[str, Any]:
        tensors = {"sums": self.sums.cpu(), "first_nonfinite": self.first_nonfinite.cpu()}
        return dict(vars(self)) | tensors

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        vars(self).update(state)
        self.sums, self.first_nonfinite = (
            value.to(device) for value in (self.sums, self.first_nonfinite)
        )
