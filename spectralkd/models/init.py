"""The initialisation that the CIFAR networks and MobileNet share."""

from __future__ import annotations

from torch import nn


def initialise(model: nn.Module) -> None:
    """He et al.'s normal initialisation over a filter's outputs; batch norms 1 and 0."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
