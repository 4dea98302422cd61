"""Wide residual networks for 32×32 images (Zagoruyko & Komodakis, arXiv 1605.07146)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from spectralkd.models.init import initialize
from spectralkd.models.stage import Stage


class Block(nn.Module):
    """Two 3×3 convolutions, each after its batch norm and ReLU."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut = (
            nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            if channels_in != channels
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        activated = functional.relu(self.bn1(x), inplace=True)
        residual = self.conv2(functional.relu(self.bn2(self.conv1(activated)), inplace=True))
        return residual + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(nn.Module):
    """WRN-depth-width: groups of (depth - 4)/6 blocks with 16, 32 and 64 times width channels.

    A stage's pre-ReLU map is its output after the next group's first batch norm, and after the
    final one (the maps of Heo et al. 2019).

    Raises:
        ValueError: depth is not 6n + 4 with n >= 1, or width is below 1.
    """

    image_shape = (3, 32, 32)
    stage_table = (
        Stage("group1", "group2.0.bn1", "group2.0.bn1"),
        Stage("group2", "group3.0.bn1", "group3.0.bn1"),
        Stage("group3", "bn", "bn"),
    )

    def __init__(self, depth: int, width: int, num_classes: int = 100) -> None:
        if depth < 10 or (depth - 4) % 6 or width < 1:
            raise ValueError(
                f"expected a depth of 6n + 4 (10, 16, 22, …) and a width of at least 1, "
                f"got depth {depth}, width {width}"
            )
        super().__init__()
        blocks = (depth - 4) // 6
        channels = [16, 16 * width, 32 * width, 64 * width]
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.group1 = _group(channels[0], channels[1], blocks, stride=1)
        self.group2 = _group(channels[1], channels[2], blocks, stride=2)
        self.group3 = _group(channels[2], channels[3], blocks, stride=2)
        self.bn = nn.BatchNorm2d(channels[3])
        self.fc = nn.Linear(channels[3], num_classes)
        initialize(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.group3(self.group2(self.group1(self.conv(x))))
        return self.fc(functional.relu(self.bn(x), inplace=True).mean((2, 3)))


def _group(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = Block(channels_in, channels, stride)
    return nn.Sequential(first, *(Block(channels, channels, 1) for _ in range(blocks - 1)))
