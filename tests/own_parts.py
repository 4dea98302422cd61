"""A user's file: a network, a data set and a method, named as ``own_parts:…`` by the tests."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from spectralkd.data import Split
from spectralkd.data.images import ImageArray
from spectralkd.data.photos import photos
from spectralkd.losses.base import Method, Reading, cross_entropy


def tiny(num_classes: int) -> nn.Module:
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), pool, nn.Linear(6, num_classes))


def patches(num_classes: int) -> nn.Module:
    """A transformer of 8×8 tokens and a class token for images of 32×32 pixels."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(32, 4, num_classes=num_classes, embed_dim=16, depth=2, num_heads=2)


def few(split: Split) -> ImageArray:
    return photos(split).subset(60)


@dataclass(eq=False, repr=False)
class LogitMSE(Method):
    of_recipe = ("momentum",)
    weight: float = 1.0
    momentum: float = 0.0

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        distance = (teacher.logits - student.logits).square().mean()
        return {"ce": cross_entropy(student, labels), "mse": self.weight * distance}
