"""Are the maps those the layers produced, and is the network left alone?"""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from spectralkd.analysis.activations import activation_spectra
from spectralkd.models import create_model, model_stages
from spectralkd.models.features import FeatureReader, altered, evaluation, record
from spectralkd.spectra.power import radial_power


class InPlace(nn.Module):
    """Everything that spoils a hook's tensor: in-place layers, functions and sums."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.last = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.norm(self.conv(x))
        self.truth = self.seen.clone()
        y = self.relu(self.seen)
        y += 1
        self.second = y.clone() - 3
        z = self.relu(self.second.clone())
        return torch.relu_(self.last(z))


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_in_place_layers_do_not_reach_a_recorded_map() -> None:
    torch.manual_seed(0)
    model = InPlace()
    with record(model, ["norm", "relu:input", "last"]) as maps:
        output = model(torch.randn(2, 3, 8, 8))
    assert not torch.equal(model.seen, model.truth)  # the trap is real
    torch.testing.assert_close(maps["norm"], model.truth)
    torch.testing.assert_close(maps["relu:input"], model.second)  # the last of two runs
    torch.testing.assert_close(maps["last"].relu(), output)
    assert maps["last"].min() < 0


def test_torchvision_networks_read_like_any_other() -> None:
    model = torchvision.models.resnet18().eval()
    x = torch.randn(1, 3, 64, 64)
    plain = model(x)
    with record(model, ["layer1", "layer4.1.relu:input", "fc"]) as maps:
        output = model(x)
    torch.testing.assert_close(output, plain, rtol=0, atol=0)
    torch.testing.assert_close(maps["fc"], plain)
    torch.testing.assert_close(
        maps["layer4.1.relu:input"].relu().mean((2, 3)) @ model.fc.weight.T + model.fc.bias, plain
    )
    assert maps["layer1"].shape == (1, 64, 16, 16)


def test_recorded_maps_carry_gradients() -> None:
    model = create_model("wrn10_1")
    with record(model, ["group1"]) as maps:
        model(torch.randn(1, 3, 32, 32))
    maps["group1"].square().sum().backward()
    assert model.group1[0].conv1.weight.grad is not None


def test_everything_is_removed_also_after_an_exception() -> None:
    model = InPlace()
    with pytest.raises(RuntimeError), record(model, ["norm", "relu:input"]):
        model(torch.randn(2, 5, 8, 8))  # five channels into a convolution of three
    assert hooks(model) == 0
    reader = FeatureReader(model, ["norm"])
    assert hooks(model) == 1
    reader.remove()
    assert hooks(model) == 0
    with pytest.raises(ValueError, match="expected a layer"), record(model, ["norm", "nom"]):
        pass
    assert hooks(model) == 0


def test_a_reader_returns_maps_and_compiles_into_one_graph() -> None:
    from torch._dynamo.testing import CompileCounter

    model = create_model("wrn10_1").eval()
    reader = FeatureReader(model, [stage.pre_relu for stage in model_stages(model)])
    counter = CompileCounter()
    compiled = torch.compile(reader, backend=counter, fullgraph=True)
    for _ in range(3):
        x = torch.randn(2, 3, 32, 32)
        logits, maps = compiled(x)
        expected, expected_maps = reader(x)
        torch.testing.assert_close(logits, expected)
        torch.testing.assert_close(maps, expected_maps)
    assert counter.frame_count == 1


def test_inputs_by_keyword_are_recorded_and_altered() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.relu(input=x)

    model, x = Named(), torch.randn(2, 3, 4, 4)
    with record(model, ["relu:input"]) as maps:
        model(x)
    assert torch.equal(maps["relu:input"], x)
    with altered(model, ["relu:input"], lambda _, value: value + 9):
        assert torch.equal(model(x), torch.relu(x + 9))
    assert torch.equal(model(x), torch.relu(x))


@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_evaluation_reads_the_statistics_asked_for_and_restores_all(statistics) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    model[0].eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(8, 3, 8, 8)
    with evaluation(model, statistics), torch.no_grad():
        output = model(x)
        centerd = model[0](x)
    if statistics == "batch":
        centerd = centerd - centerd.mean((0, 2, 3), keepdim=True)
        centerd = centerd / (centerd.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(output, centerd, rtol=1e-4, atol=1e-4)
    assert [m.training for m in model] == [False, True, True]
    assert model[1].track_running_stats
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("inner", ["running", "batch"])
def test_evaluation_within_evaluation_has_the_statistics_it_asks_for(inner) -> None:
    norm, x = nn.BatchNorm2d(4), torch.randn(8, 4, 8, 8) + 2
    with evaluation(norm, "batch"):
        with evaluation(norm, inner):
            assert float(norm(x).detach().mean()) == pytest.approx(
                2 * (inner == "running"), abs=0.2
            )
        assert float(norm(x).detach().mean()) == pytest.approx(0, abs=1e-5)
    assert norm.training
    assert norm.track_running_stats


def test_spectra_of_a_data_set_are_those_of_its_maps() -> None:
    model = create_model("wrn10_1")
    x = torch.randn(20, 3, 32, 32)
    layers = ["group1", "bn"]
    spectra = activation_spectra(model, x.split(8), layers, ring="jacobian", progress=False)
    with evaluation(model), record(model, layers) as maps, torch.no_grad():
        model(x)
    for layer in layers:
        expected = radial_power(maps[layer], ring="jacobian").mean((0, 1))
        torch.testing.assert_close(spectra[layer].power.float(), expected, rtol=1e-4, atol=1e-6)
        assert spectra[layer].samples == 20


def test_batches_may_carry_labels() -> None:
    model = nn.Conv2d(3, 2, 1)
    batches = [(torch.randn(4, 3, 8, 8), torch.zeros(4))]
    spectra = activation_spectra(nn.Sequential(model), batches, ["0"], progress=False)
    assert spectra["0"].power.shape == (4,)


def test_what_cannot_be_read_is_refused() -> None:
    model = create_model("wrn10_1")
    x = [torch.randn(1, 3, 32, 32)]
    for layers in ([], "group1"):
        with pytest.raises(ValueError, match="layers: expected a list of at least one layer"):
            activation_spectra(model, x, layers)
    with pytest.raises(ValueError, match="such as group1, .*got 'grop1'"):
        activation_spectra(model, x, ["grop1"])
    with pytest.raises(ValueError, match="got 'group1:output'"):
        activation_spectra(model, x, ["group1:output"])
    with pytest.raises(
        ValueError, match=r"layer 'fc': expected maps of .*, got \(2, 100\) for 2 images"
    ):
        activation_spectra(model, x, ["fc"], progress=False)
    with pytest.raises(ValueError, match="batches: expected at least one image"):
        activation_spectra(model, [], ["group1"], progress=False)
    with pytest.raises(ValueError, match="statistics: expected one of 'running', 'batch'"):
        activation_spectra(model, x, ["group1"], statistics="train", progress=False)
    idle = nn.Sequential(nn.Conv2d(3, 2, 1))
    idle[0].unused = nn.ReLU()
    with pytest.raises(ValueError, match="layers: 0.unused gave no tensor"):
        activation_spectra(idle, x, ["0", "0.unused"], progress=False)
    lstm = nn.Sequential(nn.LSTM(4, 4))
    with pytest.raises(ValueError, match=r"layer '0': expected maps of .*none is known to fit"):
        activation_spectra(lstm, [torch.randn(2, 3, 4)], ["0"], progress=False)
    assert hooks(model) == 0
