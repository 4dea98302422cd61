"""The initialization of the reference code's CIFAR networks (clovaai/overhaul-distillation)."""

from __future__ import annotations

from torch import nn


def initialize(model: nn.Module) -> None:
    """He et al.'s normal initialization of convolutions over a filter's outputs (fan-out).

    Batch norms and linear layers keep torch's defaults.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
