"""MobileNet, first version, for 224×224 images (Howard et al., arXiv 1704.04861)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from spectralkd.models.stage import Stage

# (channels, stride) of the thirteen depthwise-separable blocks, numbered from 1.
BLOCKS = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
]


class MobileNet(nn.Module):
    """MobileNet of full width, with torch's default initialization as in Heo et al.'s code.

    A stage's pre-ReLU map is the last batch norm of blocks 3, 5, 11 and 13, the last
    before each stride (the maps of Heo et al. 2019).
    """

    image_shape = (3, 224, 224)
    stage_table = tuple(
        Stage(f"blocks.{n}", f"blocks.{n}.bn2", f"blocks.{n}.bn2") for n in ("3", "5", "11", "13")
    )

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(32)
        self.relu = nn.ReLU(inplace=True)
        blocks, channels_in = OrderedDict[str, nn.Module](), 32
        for number, (channels, stride) in enumerate(BLOCKS, start=1):
            blocks[str(number)] = _block(channels_in, channels, stride)
            channels_in = channels
        self.blocks = nn.Sequential(blocks)
        self.fc = nn.Linear(channels_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.relu(self.bn(self.conv(x))))
        return self.fc(x.mean((2, 3)))


def _block(channels_in: int, channels: int, stride: int) -> nn.Sequential:
    depthwise = nn.Conv2d(
        channels_in, channels_in, 3, stride, padding=1, groups=channels_in, bias=False
    )
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            depthwise=depthwise,
            bn1=nn.BatchNorm2d(channels_in),
            relu1=nn.ReLU(inplace=True),
            pointwise=nn.Conv2d(channels_in, channels, 1, bias=False),
            bn2=nn.BatchNorm2d(channels),
            relu2=nn.ReLU(inplace=True),
        )
    )
