"""Do the numbers against depth say what they claim, for every kind of network?"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spectralkd.analysis.depth import block_layers, depth_profile
from spectralkd.figures.depth import blocks_figure, depth_figure
from spectralkd.models import create_model


class Blur(nn.Module):
    """Blocks that average over 2×2 pixels, circularly: each multiplies modes by cosines."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.same = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            x = (x + x.roll(1, -1)) / 2
            return self.same((x + x.roll(1, -2)) / 2)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.blocks = nn.Sequential(self.Block(), self.Block(), self.Block())
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3)[:, :, None, None])
            self.conv.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.conv(x))


def test_white_noise_through_blurring_blocks() -> None:
    images = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    k = torch.fft.fftfreq(32, dtype=torch.float64)
    length = torch.hypot(k[:, None], k[None, :])
    gain = (math.pi * k).cos().square()
    profiles = depth_profile(Blur(), images.split(32), ["conv", *(f"blocks.{n}" for n in range(3))])
    for number, profile in enumerate(profiles.values()):
        plane = (gain[:, None] * gain[None, :]) ** number
        share = plane[length >= 0.25].sum() / plane[length > 0].sum()
        assert profile.high_share == pytest.approx(float(share), rel=0.02)
    slopes = [profile.exponent for profile in profiles.values()]
    assert slopes == sorted(slopes, reverse=True)
    assert slopes[0] == pytest.approx(0, abs=3 * profiles["conv"].stderr + 0.02)
    assert profiles["conv"].correlation_length < 1 < profiles["blocks.2"].correlation_length


def test_image_pixels_count_the_stride() -> None:
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    images = functional.avg_pool2d(images, 3, 1, 1)
    profiles = depth_profile(create_model("wrn10_1"), [images], ["group1", "group2", "group3"])
    for profile, stride in zip(profiles.values(), (1, 2, 4), strict=True):
        assert profile.layer.stride == stride
        assert profile.image_correlation_length == stride * profile.correlation_length


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("torchvision/resnet50", {"layer1.": 3, "layer2.": 4, "layer3.": 6, "layer4.": 3}),
        ("torchvision/convnext_tiny", {f"features.{n}.": 9 if n == 5 else 3 for n in (1, 3, 5, 7)}),
        ("timm/convnext_tiny", {f"stages.{n}.blocks.": 9 if n == 2 else 3 for n in range(4)}),
        ("timm/vit_small_patch16_224", {"blocks.": 12}),
        ("torchvision/vit_b_16", {"encoder.layers.encoder_layer_": 12}),
    ],
)
def test_blocks_are_what_the_papers_call_so(name: str, stages: dict[str, int]) -> None:
    model = create_model(name)
    expected = [f"{stage}{number}" for stage, count in stages.items() for number in range(count)]
    assert block_layers(model, torch.zeros(2, *model.image_shape)) == expected


def test_the_figure_compares_networks_of_any_depth() -> None:
    images = torch.randn(4, 3, 32, 32)
    networks = {n: depth_profile(create_model(n), [images]) for n in ("wrn10_1", "wrn16_1")}
    figure = depth_figure(networks)
    assert len(figure.data) == 8
    assert figure.data[0].x[-1] == figure.data[4].x[-1] == 1
    assert list(figure.data[1].y) == [b.high_share for b in networks["wrn10_1"].values()]


def test_a_network_without_blocks_is_asked_for_layers() -> None:
    with pytest.raises(ValueError, match="layers: the network has no repeated blocks"):
        depth_profile(nn.Sequential(nn.Conv2d(3, 4, 3)), [torch.zeros(2, 3, 8, 8)])
    with pytest.raises(ValueError, match="batches: expected at least one image"):
        depth_profile(create_model("wrn10_1"), [])


def test_blocks_are_drawn_by_ring_and_by_half_diagonal() -> None:
    blocks = depth_profile(create_model("wrn10_1"), [torch.randn(4, 3, 32, 32)])
    figure = blocks_figure(blocks, title="wrn10_1")
    assert [trace.name for trace in figure.data[::2]] == list(blocks)
    assert list(figure.data[1].y) == next(iter(blocks.values())).view.log_amplitude.tolist()
    assert figure.data[1].y[0] == 0


def test_the_first_ring_of_large_maps_is_on_the_axis() -> None:
    images = [torch.randn(2, 3, 96, 96)]
    blocks = depth_profile(create_model("wrn10_1"), images, ["group1"])
    low, _ = blocks_figure(blocks, title="wrn10_1").layout.xaxis.range
    assert 10**low < float(blocks["group1"].view.spectrum.frequency[1])


def test_a_layer_without_power_has_no_exponent() -> None:
    model = create_model("wrn10_1")
    dead = nn.Sequential(model.conv, nn.ReLU(), nn.Threshold(1e9, 0.0))
    found = depth_profile(dead, [torch.randn(4, 3, 32, 32)], ["0", "2"])
    assert math.isfinite(found["0"].exponent)
    assert math.isnan(found["2"].exponent)
