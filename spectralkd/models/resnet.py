"""Residual networks for 32×32 images (He et al., arXiv 1512.03385, Section 4.2)."""

from __future__ import annotations

from torch import Tensor, nn

from spectralkd.models.init import initialize
from spectralkd.models.stage import Stage


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut; the ReLU follows their sum."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU(inplace=True)
        self.shortcut = (
            nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
            if stride != 1 or channels_in != channels
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(residual + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet of basic blocks: three groups of (depth - 2)/6 with 16, 32 and 64 channels.

    A stage's pre-ReLU map is the residual sum that enters its last ReLU; its margin is read from
    the last batch norm in that sum.

    Raises:
        ValueError: depth is not 6n + 2 with n >= 1.
    """

    image_shape = (3, 32, 32)

    def __init__(self, depth: int, num_classes: int = 100) -> None:
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"expected a depth of 6n + 2 (8, 14, 20, …), got {depth}")
        super().__init__()
        blocks = (depth - 2) // 6
        self.stage_table = tuple(
            Stage(group, f"{group}.{blocks - 1}.relu2:input", f"{group}.{blocks - 1}.bn2")
            for group in ("group1", "group2", "group3")
        )
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.group1 = _group(16, 16, blocks, stride=1)
        self.group2 = _group(16, 32, blocks, stride=2)
        self.group3 = _group(32, 64, blocks, stride=2)
        self.fc = nn.Linear(64, num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn(self.conv(x)))
        return self.fc(self.group3(self.group2(self.group1(x))).mean((2, 3)))


def _group(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = Block(channels_in, channels, stride)
    return nn.Sequential(first, *(Block(channels, channels, 1) for _ in range(blocks - 1)))
