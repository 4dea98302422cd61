"""Is every layer of any network read with its axes in the right places, or refused?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import spectralkd as skd
from spectralkd.models import create_model, model_stages
from spectralkd.models.features import record
from spectralkd.models.layout import find_layouts, map_layers, read_maps
from spectralkd.spectra.power import radial_power

# By hand, from the networks' code: patterns of layers, and how their outputs become maps.
NCHW: Callable[[Tensor], Tensor] = lambda x: x  # noqa: E731
NHWC: Callable[[Tensor], Tensor] = lambda x: torch.einsum("nhwc->nchw", x)  # noqa: E731


def tokens(skipped: int) -> Callable[[Tensor], Tensor]:
    def move(x: Tensor) -> Tensor:
        n, count, c = x.shape
        side = round((count - skipped) ** 0.5)
        return x[:, skipped:].reshape(n, side, side, c).permute(0, 3, 1, 2)

    return move


VIT = [(r"patch_embed\.proj", NCHW), (r"patch_embed.*", tokens(0))]
NETWORKS: dict[str, list[tuple[str, Callable[[Tensor], Tensor]]]] = {
    "torchvision/resnet50": [(".*", NCHW)],
    "torchvision/wide_resnet50_2": [(".*", NCHW)],
    "torchvision/densenet121": [(".*", NCHW)],
    "torchvision/mobilenet_v3_large": [(".*", NCHW)],
    "torchvision/efficientnet_b0": [(".*", NCHW)],
    "torchvision/convnext_tiny": [(r".*\.block\.[1-5]", NHWC), (".*", NCHW)],
    "torchvision/swin_t": [(r"features\.0\.0|permute", NCHW), (".*", NHWC)],
    "torchvision/vit_b_16": [("conv_proj", NCHW), (".*", tokens(1))],
    "torchvision/maxvit_t": [(".*", NCHW)],
    "timm/convnext_tiny": [(r".*blocks\.\d+\.(norm|mlp.*)", NHWC), (".*", NCHW)],
    "timm/vit_small_patch16_224": [*VIT, (".*", tokens(1))],
    "timm/vit_medium_patch16_reg4_gap_256": [*VIT, (".*", tokens(4))],
    "timm/swin_tiny_patch4_window7_224": [
        (r"patch_embed\.proj", NCHW),
        (r".*\.(norm2|drop_path2|mlp.*|attn\.(qkv|proj|proj_drop)|attn)", tokens(0)),
        (".*", NHWC),
    ],
    "timm/deit3_small_patch16_224": [*VIT, (".*", tokens(1))],
    "timm/eva02_tiny_patch14_224": [*VIT, (".*", tokens(1))],
    "timm/resnetv2_50": [(".*", NCHW)],
    "timm/dm_nfnet_f0": [(".*", NCHW)],
}
# How many layers are offered of networks whose axes were confused before.
COUNTS = {
    "torchvision/swin_t": {"nhwc": 150, "nchw": 2},
    "torchvision/convnext_tiny": {"nhwc": 90, "nchw": 107},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_offered_layer_is_read_as_by_hand(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name).eval()
    images = torch.randn(2, *model.image_shape)
    found = map_layers(model, images)
    with record(model, list(found)) as outputs, torch.no_grad():
        model(images)
    for layer, how in found.items():
        move = next(move for pattern, move in NETWORKS[name] if re.fullmatch(pattern, layer))
        maps = how.maps(outputs[layer])
        assert maps.shape == (2, *how.shape), layer
        assert how.stride * how.height == images.shape[-2]
        assert torch.equal(maps, move(outputs[layer])), layer
    if name in COUNTS:
        assert Counter(how.layout for how in found.values()) == COUNTS[name]
    stages = [stage.output for stage in model_stages(model)]
    assert len(stages) == 4
    assert set(stages) <= set(found)


def test_spectra_of_a_transformer_are_those_of_its_grid() -> None:
    torch.manual_seed(0)
    model = create_model("torchvision/vit_b_16").eval()
    images, layer = torch.randn(3, 3, 224, 224), "encoder.layers.encoder_layer_3"
    with record(model, [layer]) as outputs, torch.no_grad():
        model(images)
    expected = radial_power(tokens(1)(outputs[layer]).double()).mean((0, 1))
    spectrum = skd.activation_spectra(model, [images], [layer], progress=False)[layer]
    torch.testing.assert_close(spectrum.power, expected, rtol=1e-5, atol=0)


class Turned(nn.Module):
    """Channels first, then last; with ``width`` channels, pixels and pixels a side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.turned, self.linear, self.relu = nn.Identity(), nn.Linear(width, width), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.linear(self.turned(self.conv(x).movedim(1, -1))))


def test_an_ambiguous_layer_is_asked_for() -> None:
    model, images = Turned(8), torch.randn(2, 3, 8, 8)
    assert set(map_layers(model, images)) == {"conv", "linear"}  # their types say it
    with pytest.raises(ValueError, match=r"'turned': .*several layouts fit; layout=\{'turned'"):
        find_layouts(model, images, ["turned"])
    assert find_layouts(model, images, ["turned"], {"turned": "nhwc"})["turned"].layout == "nhwc"
    (maps,) = read_maps(
        model, [images], ["turned", "conv"], layout={"turned": "nhwc"}, progress=False
    )
    assert torch.equal(maps["turned"], maps["conv"])
    assert {m.layout for m in map_layers(Turned(5), images).values()} == {"nchw", "nhwc"}
    assert set(map_layers(Turned(5), images)) == {"conv", "turned", "linear", "relu", ""}


@pytest.mark.parametrize("size", [(12, 20), (20, 12)])
def test_maps_need_not_be_square(size: tuple[int, int]) -> None:
    images = torch.randn(1, 3, *size)
    found = map_layers(Turned(7), images)
    assert {m.shape for m in found.values()} == {(7, *size)}


def test_a_convolutional_network_is_never_asked_about() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2))
    found = map_layers(model, torch.randn(1, 3, 16, 16))  # as many channels as pixels a side
    assert {name: m.shape for name, m in found.items()} == {
        "0": (16, 16, 16), "1": (16, 16, 16), "2": (16, 8, 8), "": (16, 8, 8),
    }  # fmt: skip


def test_a_layout_that_cannot_be_is_refused() -> None:
    model, images = Turned(8), torch.randn(2, 3, 8, 8)
    with pytest.raises(ValueError, match=r"got \(2, 8, 8, 8\) for 2 images .*: not 'tokens'"):
        find_layouts(model, images, ["conv"], "tokens")
    with pytest.raises(ValueError, match="layout: expected one of 'nchw', 'nhwc', 'tokens', got"):
        find_layouts(model, images, ["conv"], "nwhc")
    vit = create_model("timm/vit_small_patch16_224").eval()
    assert "blocks.0.attn.q_norm" not in map_layers(vit, torch.zeros(2, 3, 224, 224))


def test_a_zoo_names_what_it_does_not_have() -> None:
    with pytest.raises(ValueError, match="expected torchvision/ and one of swin_t.*got 'swin_tt'"):
        create_model("torchvision/swin_tt")
    with pytest.raises(ValueError, match=r"model: expected timm/ and one of .*'convnext_tinny'"):
        create_model("timm/convnext_tinny")
    with pytest.raises(ValueError, match="pretrained: expected one of IMAGENET1K_V1, DEFAULT"):
        create_model("torchvision/resnet18", pretrained="imagenet")


def test_weights_of_a_zoo_are_read_from_a_file(tmp_path) -> None:
    torch.manual_seed(0)
    model = create_model("timm/resnet18", 7)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    again = create_model("timm/resnet18", 7, pretrained=str(tmp_path / "w.pth"))
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)
