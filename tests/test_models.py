"""Are these the paper's networks, and do their tables of taps tell the truth?"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from spectralkd.models import MODELS, create_model, model_stages
from spectralkd.models.features import record
from spectralkd.models.weights import load_weights, weights_digest

# Counted from the published descriptions; 100 classes but for the last two.
PARAMETERS = {
    "wrn28_4": 5_872_180,
    "wrn16_4": 2_772_020,
    "wrn28_2": 1_479_220,
    "wrn16_2": 703_284,
    "resnet56": 861_620,
    "pyramidnet200_240": 26_844_952,
    "pyramidnet110_84": 3_913_536,
    "mobilenet": 4_231_976,
    "resnet50": 25_557_032,
}
IMAGENET = ("mobilenet", "resnet50")
# Small members of every family, quick to run.
SMALL = ("wrn10_1", "resnet8", "pyramidnet20_12", "pyramidnet164_12", "mobilenet", "resnet50")


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_to_the_unit(name: str) -> None:
    model = create_model(name, num_classes=1000 if name in IMAGENET else 100)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


def test_table_1s_compression_ratios() -> None:
    """|S|/|T| as the paper prints them, in percent."""
    setups = {
        ("wrn28_4", "wrn16_4"): 47.2,
        ("wrn28_4", "wrn28_2"): 25.2,  # the paper prints 25.0
        ("wrn28_4", "wrn16_2"): 12.0,  # the paper prints 11.9
        ("wrn28_4", "resnet56"): 14.7,
        ("pyramidnet200_240", "wrn28_4"): 21.9,
        ("pyramidnet200_240", "pyramidnet110_84"): 14.6,
    }
    size = {
        name: sum(p.numel() for p in create_model(name, 100).parameters())
        for name in {*itertools.chain(*setups)}
    }
    for (teacher, student), percent in setups.items():
        assert round(100 * size[student] / size[teacher], 1) == percent


@pytest.mark.parametrize("name", SMALL)
def test_taps_are_before_the_relu_and_fit_their_norm(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, num_classes=7)
    size = 64 if name in IMAGENET else 32
    stages = model_stages(model)
    layers = [layer for stage in stages for layer in (stage.output, stage.pre_relu)]
    with record(model, layers) as maps:
        assert model(torch.randn(2, 3, size, size)).shape == (2, 7)
    assert len(stages) == (4 if name in IMAGENET else 3)
    sides = [maps[stage.output].shape[-1] for stage in stages]
    assert sides == [size >> (n + 2 if name in IMAGENET else n) for n in range(len(sides))]
    for stage in stages:
        norm = model.get_submodule(stage.norm)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.num_features == maps[stage.pre_relu].shape[1]
        assert maps[stage.pre_relu].shape[2:] == maps[stage.output].shape[2:]
        assert maps[stage.pre_relu].min() < 0


def test_a_residual_tap_is_what_the_relu_receives() -> None:
    model = create_model("resnet8")
    stage = model_stages(model)[1]
    with record(model, [stage.pre_relu, stage.output]) as maps:
        model(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(maps[stage.pre_relu].relu(), maps[stage.output], rtol=0, atol=0)


def test_bottlenecks_are_told_by_depth() -> None:
    assert hasattr(create_model("pyramidnet164_12").group1[0], "conv3")
    assert not hasattr(create_model("pyramidnet110_84").group1[0], "conv3")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("wrn28-4", "expected one of wrn28_4, .*got 'wrn28-4'"),
        ("wrn15_2", "model 'wrn15_2': expected a depth of 6n \\+ 4"),
        ("resnet57", "model 'resnet57': expected a depth of 6n \\+ 2"),
        ("pyramidnet200_0", "alpha of at least 1"),
        ("vgg", "model: expected one of"),
    ],
)
def test_unknown_networks_are_refused_with_the_nearest(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        create_model(name)


def test_a_classifier_has_classes() -> None:
    for name in ("wrn10_1", "torchvision/resnet18"):
        with pytest.raises(ValueError, match="num_classes: expected at least 1, got 0"):
            create_model(name, 0)
    headless = create_model("timm/resnet18", 0)  # as timm says it
    assert headless.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 512)


def test_a_foreign_network_has_no_table() -> None:
    with pytest.raises(
        TypeError, match="expected a network of create_model, .*; got Linear with None"
    ):
        model_stages(nn.Linear(1, 1))


def test_initialization_is_the_reference_codes() -> None:
    """clovaai/overhaul-distillation: fan-out normal on CIFAR, torch's default in MobileNet."""
    torch.manual_seed(0)
    for name in ("wrn16_2", "resnet20", "pyramidnet20_12"):
        model = create_model(name)
        weight = model.group3[0].conv2.weight
        fan_out = weight.shape[0] * 9
        assert weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.03)
        bound = model.fc.in_features**-0.5
        largest = model.fc.bias.abs().max()
        assert largest == 0 if name == "wrn16_2" else 0.9 * bound < largest <= bound
    depthwise = create_model("mobilenet").blocks[12].depthwise.weight
    assert depthwise.std().item() == pytest.approx((1 / 9 / 3) ** 0.5, rel=0.03)


def test_torchvisions_weights_keep_all_but_a_head_of_another_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = torchvision.models.resnet18().state_dict()
    enum = torchvision.models.WeightsEnum
    monkeypatch.setattr(enum, "get_state_dict", lambda *_, **__: weights)
    whole = create_model("torchvision/resnet18", pretrained="DEFAULT").state_dict()
    other = create_model("torchvision/resnet18", 7, pretrained="DEFAULT").state_dict()
    for name, value in weights.items():
        assert torch.equal(whole[name], value)
        assert torch.equal(other[name], value) or name in ("fc.weight", "fc.bias")
    assert other["fc.weight"].shape == (7, 512)


def test_a_network_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from torch import nn\ndef tiny(num_classes):\n    return nn.Linear(4, num_classes)\n"
    (tmp_path / "my_networks.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert create_model("my_networks:tiny", 7).out_features == 7
    monkeypatch.setitem(MODELS, "tiny", lambda classes: nn.Linear(3, classes))
    assert create_model("tiny", 5).out_features == 5
    with pytest.raises(ValueError, match="model: expected an importable package.module:name, got"):
        create_model("my_networks:huge")


def test_an_object_is_no_function_of_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "made", create_model("wrn10_1"))
    with pytest.raises(TypeError, match="model: expected made to be a function of the number of"):
        create_model("made")
    monkeypatch.setitem(MODELS, "none", lambda classes: None)
    with pytest.raises(TypeError, match="model: expected a function that returns a network, got"):
        create_model("none")


def test_what_is_infinite_by_design_is_loaded(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    net.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    save_file(net.state_dict(), tmp_path / "sound.safetensors")
    load_weights(net, tmp_path / "sound.safetensors")
    net.bias.data[0] = torch.nan
    save_file(net.state_dict(), tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match="expected finite values, got others in bias of"):
        load_weights(net, tmp_path / "bad.safetensors")


def test_the_digest_is_of_values_and_takes_tied_weights() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    before = weights_digest(net)
    assert before == weights_digest(net)
    net[0].bias.data[0] += 1e-6
    assert weights_digest(net) != before


@pytest.mark.parametrize("kind", ["sparse", "complex", "integer", "meta"])
def test_weights_of_another_kind_are_refused_before_any_is_loaded(
    tmp_path: Path, kind: str
) -> None:
    model = create_model("wrn10_1")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = {name: torch.ones_like(value) for name, value in before.items()}
    state["group3.0.conv1.weight"] = {
        "sparse": lambda w: w.to_sparse(),
        "complex": lambda w: w.to(torch.complex64),
        "integer": lambda w: w.int(),
        "meta": lambda w: w.to("meta"),
    }[kind](state["group3.0.conv1.weight"])
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w\.pt does not fit the model: group3.0.conv1.weight is"):
        load_weights(model, tmp_path / "w.pt")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
