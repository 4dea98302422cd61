"""Pyramidal residual networks for 32×32 images (Han et al., arXiv 1610.02915)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from spectralkd.models.init import initialize
from spectralkd.models.stage import Stage


class BasicBlock(nn.Module):
    """Batch norm, 3×3 convolution, batch norm, ReLU, 3×3 convolution, batch norm."""

    expansion = 1

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.conv1(self.bn1(x))
        residual = self.bn3(self.conv2(functional.relu(self.bn2(residual), inplace=True)))
        return _add_padded(residual, x, self.stride)


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions between four batch norms; the output is four times as wide."""

    expansion = 4

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        self.bn4 = nn.BatchNorm2d(4 * channels)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.conv1(self.bn1(x))
        residual = self.conv2(functional.relu(self.bn2(residual), inplace=True))
        residual = self.bn4(self.conv3(functional.relu(self.bn3(residual), inplace=True)))
        return _add_padded(residual, x, self.stride)


class PyramidNet(nn.Module):
    """PyramidNet: the channels grow by alpha/blocks at every block, from 16 to 16 + alpha.

    Bottlenecks from depth 164 on (three groups of (depth - 2)/9), basic blocks below (three of
    (depth - 2)/6). A stage's pre-ReLU map is inside the next stage's first block, after
    ``bn1`` for basic blocks and after ``bn2`` for bottlenecks, and after the final batch norm
    (the maps of Heo et al. 2019).

    Raises:
        ValueError: no such depth, or alpha is below 1.
    """

    image_shape = (3, 32, 32)

    def __init__(self, depth: int, alpha: int, num_classes: int = 100) -> None:
        block: type[BasicBlock] | type[Bottleneck] = Bottleneck if depth >= 164 else BasicBlock
        convolutions = 9 if block is Bottleneck else 6
        if depth < 8 or (depth - 2) % convolutions or alpha < 1:
            raise ValueError(
                f"expected a depth of 6n + 2 below 164 or of 9n + 2 from there on, and alpha of at "
                f"least 1, got depth {depth}, alpha {alpha}"
            )
        super().__init__()
        inner = "bn2" if block is Bottleneck else "bn1"
        self.stage_table = (
            Stage("group1", f"group2.0.{inner}", f"group2.0.{inner}"),
            Stage("group2", f"group3.0.{inner}", f"group3.0.{inner}"),
            Stage("group3", "bn_final", "bn_final"),
        )
        blocks = (depth - 2) // convolutions
        widths = [round(16 + alpha * (n + 1) / (3 * blocks)) for n in range(3 * blocks)]
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        channels, groups = 16, []
        for group in range(3):
            layers: list[nn.Module] = []
            for number in range(blocks):
                width = widths[group * blocks + number]
                layers.append(block(channels, width, 2 if group > 0 and number == 0 else 1))
                channels = width * block.expansion
            groups.append(nn.Sequential(*layers))
        self.group1, self.group2, self.group3 = groups
        self.bn_final = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.group3(self.group2(self.group1(self.bn(self.conv(x)))))
        return self.fc(functional.relu(self.bn_final(x), inplace=True).mean((2, 3)))


def _add_padded(residual: Tensor, x: Tensor, stride: int) -> Tensor:
    """The parameter-free shortcut: average-pooled where strided, zeros for the new channels."""
    if stride != 1:
        x = functional.avg_pool2d(x, 2, stride=2, ceil_mode=True)
    return residual + functional.pad(x, (0, 0, 0, 0, 0, residual.shape[1] - x.shape[1]))
