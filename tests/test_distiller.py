"""Does any method work in anyone's loop, and leave the networks as it found them?"""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torchvision
from accelerate import Accelerator
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

import spectralkd as skd
from spectralkd.losses import METHODS
from spectralkd.losses.base import (
    Method,
    Phase,
    Reading,
    chosen_options,
    cross_entropy,
    method_options,
)
from spectralkd.losses.overhaul import margin
from spectralkd.losses.sum import method_name
from spectralkd.models import create_model, model_stages
from spectralkd.models.features import record
from spectralkd.models.stage import Stage

OF_LOGITS = ["baseline", "kd", "jacobian", "dkd"]
LABELS = torch.tensor([0, 3, 9, 3])

# Every phase of every method, with the options that lead to it.
PHASES: list[tuple[str, str, dict[str, Any]]] = [
    ("baseline", "train", {}),
    ("kd", "train", {}),
    ("fitnets", "train", {}),
    ("fitnets", "hint", {"two_stages": True}),
    ("fitnets", "train", {"two_stages": True}),
    ("at", "train", {}),
    ("jacobian", "train", {}),
    ("ft", "paraphraser", {}),
    ("ft", "train", {}),
    ("ab", "boundaries", {}),
    ("ab", "train", {}),
    ("overhaul", "train", {}),
    ("spectral", "train", {}),
    ("fft_align", "train", {}),
    ("focal", "train", {}),
    ("wavelet", "train", {}),
    ("fam", "train", {}),
    ("ufd", "train", {}),
    ("dkd", "train", {}),
    ("reviewkd", "train", {}),
]
WITH_STATE = [name for name in METHODS if name not in (*OF_LOGITS, "at", "fft_align")]
# What a batch norm takes off again, or no band sees, has no gradient but rounding.
SHIFTED_AWAY = {
    "fitnets": ["regressor.0.bias"],
    "wavelet": [f"connectors.{stage}.1.bias" for stage in range(3)],
}


def network(name: str, seed: int, num_classes: int = 10) -> nn.Module:
    """An untrained network whose batch norms are not 1 and 0, as after training."""
    torch.manual_seed(seed)
    model = create_model(name, num_classes)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model


def images(size: int = 32, count: int = 4) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(9))


def pair() -> tuple[nn.Module, nn.Module]:
    return network("wrn10_2", 0), network("wrn10_1", 1)


def begun(distiller: skd.Distiller, name: str) -> skd.Distiller:
    """The distiller in the phase of a name."""
    (phase,) = (phase for phase in distiller.phases if phase.name == name)
    distiller.begin(phase)
    return distiller.train()


def hooks(*models: nn.Module) -> int:
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks)
        for model in models
        for m in model.modules()
    )


# --- five lines -----------------------------------------------------------------------------------


def train_in_five_lines(distiller: skd.Distiller, size: int, steps: int = 12) -> list[float]:
    losses = []
    optimizer = torch.optim.SGD(distiller.trainable_parameters(), lr=0.02)
    for _ in range(steps):
        loss = sum(distiller(images(size), LABELS).values())
        loss.backward(), optimizer.step(), optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_the_papers_loss_in_five_lines() -> None:
    losses = train_in_five_lines(skd.Distiller(*pair(), "spectral"), 32)
    assert losses[-1] < 0.95 * losses[0]


def test_kd_takes_any_two_networks() -> None:
    torch.manual_seed(0)
    teacher = torchvision.models.resnet18(num_classes=10)
    student = torchvision.models.mobilenet_v3_small(num_classes=10)
    losses = train_in_five_lines(skd.Distiller(teacher, student, "kd"), 64)
    assert losses[-1] < losses[0]


def test_a_loop_of_phases() -> None:
    """FT trains its paraphraser first, and the student not at all meanwhile."""
    distiller = skd.Distiller(*pair(), "ft", paraphraser_epochs=1)
    assert distiller.phase == distiller.phases[0]
    before = copy.deepcopy(distiller.student.state_dict())
    first = train_in_five_lines(distiller, 32, steps=3)
    torch.testing.assert_close(distiller.student.state_dict(), before, rtol=0, atol=0)
    assert first[-1] < first[0]
    distiller.begin(distiller.phases[1])
    train_in_five_lines(distiller, 32, steps=1)
    assert not torch.equal(distiller.student.conv.weight, before["conv.weight"])


# --- a method of one's own ------------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class Similarity(Method):
    """Tung & Mori 2019: similar images of the teacher are similar to the student."""

    reads = "output"
    weight: float = 3000.0

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        t, s = (functional.normalize(r.maps[-1].flatten(1)) for r in (teacher, student))
        t, s = (functional.normalize(x @ x.T) for x in (t, s))
        distance = (t - s).square().mean()
        return {"ce": cross_entropy(student, labels), "sp": self.weight * distance}


def test_a_method_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    terms = skd.Distiller(*pair(), Similarity(weight=10.0))(images(), LABELS)
    assert set(terms) == {"ce", "sp"}
    monkeypatch.setitem(skd.METHODS, "similarity", Similarity)
    named = skd.Distiller(*pair(), "similarity", weight=20.0)(images(), LABELS)
    assert named["sp"].item() == pytest.approx(2 * terms["sp"].item())
    path = f"{__name__}:Similarity"
    assert skd.Distiller(*pair(), path)(images(), LABELS)["sp"] > 0


def test_needs_are_declared() -> None:
    """KD and the baseline read logits, AT no margin, Overhaul those of the teacher alone."""

    class Plain(nn.Module):
        stage_table = (Stage("first", "first"), Stage("second", "second"))

        def __init__(self, width: int) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, width, 3, padding=1)
            self.norm = nn.GroupNorm(1, width)
            self.second = nn.Conv2d(width, width, 3, stride=2, padding=1)
            self.fc = nn.Linear(width, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.second(self.norm(self.first(x)).relu()).relu().mean((2, 3)))

    for method in ("baseline", "kd", "jacobian"):
        assert skd.Distiller(nn.Sequential(Plain(4)), nn.Sequential(Plain(3)), method).method
    for method in ("at", "fitnets", "ft", "ab"):
        assert skd.Distiller(Plain(4), Plain(3), method)(images(), LABELS)
    for method in ("overhaul", "spectral"):
        with pytest.raises(ValueError, match="first, second of the teacher are no batch norms"):
            skd.Distiller(Plain(4), Plain(3), method)
        assert skd.Distiller(Plain(4), Plain(3), method, images=images())(images(), LABELS)
    teacher = Plain(4)
    teacher.norm1, teacher.norm2 = nn.BatchNorm2d(4), nn.BatchNorm2d(3)
    teacher.stage_table = (Stage("first", "first", "norm1"), Stage("second", "second", "norm2"))
    with pytest.raises(TypeError, match="expected a BatchNorm2d of 4 channels as the norm of sec"):
        skd.Distiller(teacher, Plain(3), "spectral")
    teacher.norm2 = nn.BatchNorm2d(4)
    assert "cps" in skd.Distiller(teacher, Plain(3), "spectral")(images(), LABELS)
    assert skd.Distiller(None, Plain(3), "baseline")(images(), LABELS).keys() == {"ce"}


# --- every method on two networks -----------------------------------------------------------------


def test_the_phases_above_are_all_there_are() -> None:
    found = []
    for name in METHODS:
        for options in [{}, {"two_stages": True}] if name == "fitnets" else [{}]:
            phases = skd.METHODS[name](**options).phases
            assert phases[-1]._replace(teacher_statistics="running") == Phase("train")
            found += [(name, phase.name, options) for phase in phases]
    assert found == PHASES


@pytest.mark.parametrize(
    ("phases", "says"),
    [
        ((), "method: expected phases to be a tuple of Phase, got "),
        (("train",), "method: expected phases to be a tuple of Phase, got "),
        (Phase("train"), "method: expected phases to be a tuple of Phase, got Phase"),
        ((Phase("a", True),), "expected a whole number of epochs, or None, in the phase 'a'"),
        ((Phase("a", 0.5),), "expected a whole number of epochs, or None, in the phase 'a', got 0"),
        ((Phase("a", -1),), "expected a whole number of epochs, or None, in the phase 'a', got -1"),
    ],
)
def test_phases_are_phases(phases: Any, says: str) -> None:
    class Own(Method):
        needs_teacher = False

    Own.phases = phases
    with pytest.raises((TypeError, ValueError), match=says):
        skd.Distiller(None, network("wrn10_1", 0), Own())


@pytest.mark.parametrize("layers", [[], ["group1"], [("group1",)], [("a", "b", "c")]])
def test_layers_are_pairs(layers: Any) -> None:
    with pytest.raises(ValueError, match="layers: expected pairs of a teacher's and a student's"):
        skd.Distiller(*pair(), "at", layers=layers)


def test_a_method_is_a_dataclass_that_compares_by_identity() -> None:
    @dataclass
    class Own(Method):
        weight: float = 1.0

    with pytest.raises(TypeError, match=r"expected @dataclass\(eq=False, repr=False\) before Own"):
        Own()


def test_phases_are_the_published_ones() -> None:
    """The teacher's statistics are the batch's in AB's first phase and in Overhaul."""
    phases = {name: skd.METHODS[name]().phases for name in METHODS}
    assert phases["ft"][0] == Phase("paraphraser", 5, 0.1, student=False)
    assert phases["ab"] == (Phase("boundaries", 30, teacher_statistics="batch"), Phase("train"))
    for name in ("overhaul", "spectral"):
        assert phases[name] == (Phase("train", teacher_statistics="batch"),)
    assert skd.METHODS["ab"](init_epochs=2).phases[0].epochs == 2
    longer = skd.METHODS["ft"](paraphraser_epochs=7, paraphraser_lr=0.01)
    assert longer.phases[0][1:3] == (7, 0.01)
    assert skd.METHODS["fitnets"](two_stages=True, hint_epochs=3).phases[0].epochs == 3


def check_training(distiller: skd.Distiller, phase_name: str, size: int = 32) -> None:
    """One step's gradients: wherever the phase trains, and nowhere else."""
    terms = begun(distiller, phase_name)(images(size), LABELS)
    for term in terms.values():
        assert term.shape == ()
        assert torch.isfinite(term)
    sum(terms.values()).backward()
    method, student = distiller.method, distiller.student
    first = next(student.parameters())  # the furthest from any loss
    if distiller.phase.student:
        assert first.grad is not None
        assert torch.isfinite(first.grad).all()
        assert first.grad.abs().max() > 0
    else:
        assert all(p.grad is None for p in student.parameters())
    trained = set(distiller.trainable_parameters())
    gradients = [p.grad.abs().max() for p in method.parameters() if p.grad is not None]
    for name, parameter in method.named_parameters():
        assert parameter.requires_grad == (parameter in trained)
        if parameter in trained:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            moves = name not in SHIFTED_AWAY.get(type(method).__name__.lower(), [])
            assert (parameter.grad.abs().max() > 1e-5 * max(gradients)) == moves, name
        else:
            assert parameter.grad is None, name
    if distiller.teacher is not None:
        assert all(p.grad is None for p in distiller.teacher.parameters())


@pytest.mark.parametrize(("name", "phase", "options"), PHASES)
def test_every_phase_trains_what_it_says(name: str, phase: str, options: dict[str, Any]) -> None:
    check_training(skd.Distiller(*pair(), name, **options), phase)


@pytest.mark.parametrize(("name", "phase", "options"), PHASES)
def test_every_phase_in_half_and_double_precision(
    name: str, phase: str, options: dict[str, Any]
) -> None:
    distiller = begun(skd.Distiller(*pair(), name, **options), phase)
    expected = distiller(images(), LABELS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = distiller(images(), LABELS)
    torch.manual_seed(1)
    for key, term in terms.items():
        assert term.dtype == torch.float32
        assert term.item() == pytest.approx(expected[key].item(), rel=0.05)
    models = [model.double() for model in pair()]
    double = begun(skd.Distiller(*models, name, **options), phase)
    double.method.load_state_dict(distiller.method.state_dict())
    for key, term in double(images().double(), LABELS).items():
        assert term.dtype == torch.float64
        assert term.item() == pytest.approx(expected[key].item(), rel=1e-4)


@pytest.mark.parametrize("student", ["resnet8", "pyramidnet20_12"])
@pytest.mark.parametrize("name", ["overhaul", "spectral"])
def test_other_families_of_students(name: str, student: str) -> None:
    check_training(skd.Distiller(network("wrn10_2", 0), network(student, 1), name), "train")


@pytest.mark.parametrize(
    ("name", "size"), [("at", 64), ("ab", 64), ("overhaul", 64), ("spectral", 128)]
)
def test_the_networks_of_imagenet(name: str, size: int) -> None:
    models = network("resnet50", 0), network("mobilenet", 1)
    distiller = skd.Distiller(*models, name, image_shape=(3, size, size))
    check_training(distiller, distiller.phases[0].name, size)


# --- what it owns ---------------------------------------------------------------------------------


BLOCKS = ("blocks.0", "blocks.1", "blocks.3")


def transformer(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    size = {"img_size": 32, "patch_size": 4, "embed_dim": 24, "depth": 4, "num_heads": 2}
    return VisionTransformer(**size, num_classes=10)


@pytest.mark.parametrize("student", ["convolutional", "transformer"])
@pytest.mark.parametrize("name", METHODS)
def test_between_a_convolutional_network_and_a_transformer(name: str, student: str) -> None:
    """Maps of 32, 16 and 8 pixels a side against 8×8 tokens, in both directions."""
    models = network("wrn10_1", 0), transformer(1)
    reads = skd.METHODS[name].reads or "output"
    layers = list(zip((getattr(s, reads) for s in model_stages(models[0])), BLOCKS, strict=True))
    if student == "convolutional":
        models, layers = models[::-1], [pair[::-1] for pair in layers]
    distiller = skd.Distiller(*models, name, layers=layers, resize="pool", images=images())
    for phase in distiller.phases:
        distiller.begin(phase)
        terms = distiller(images(), LABELS)
        sum(terms.values()).backward()
        assert all(torch.isfinite(term) for term in terms.values())
        gradients = [p.grad for p in distiller.trainable_parameters() if p.grad is not None]
        assert sum(g.abs().sum() for g in gradients) > 0


def test_maps_of_two_sizes_are_pooled_to_the_smaller() -> None:
    models, layers = (network("wrn10_1", 0), transformer(1)), [("group1", "blocks.1")]
    with pytest.raises(ValueError, match="stage 1 has maps of 32×32 at group1 and 8×8 at blocks.1"):
        skd.Distiller(*models, "at", layers=layers)
    distiller = skd.Distiller(*models, "at", layers=layers, resize="pool")
    with record(models[0], ["group1"]) as maps:
        teacher = distiller.read_teacher(images())
    pooled = maps["group1"].unfold(2, 4, 4).unfold(3, 4, 4).mean((-2, -1))
    torch.testing.assert_close(teacher.maps[0], pooled)


def test_images_of_another_size_than_expected_are_refused() -> None:
    teacher, student = skd.create_model("wrn10_2", 5), skd.create_model("wrn10_1", 5)
    distiller = skd.Distiller(teacher, student, "at")
    with pytest.raises(ValueError, match="with maps of 32×32 pixels at group1, got 64×64"):
        distiller(torch.randn(2, 3, 64, 64), torch.arange(2))
    larger = skd.Distiller(teacher, student, "at", image_shape=(3, 64, 64))
    assert larger(torch.randn(2, 3, 64, 64), torch.arange(2)).keys() == {"ce", "at"}


def test_margins_without_a_batch_norm_are_measured() -> None:
    teacher, student = transformer(1), network("wrn10_1", 0)
    layers = [("blocks.3", "group3")]
    distiller = skd.Distiller(teacher, student, "overhaul", layers=layers, images=images(count=60))
    with record(teacher.eval(), ["blocks.3"]) as maps, torch.no_grad():
        teacher(images(count=60))
    tokens = maps["blocks.3"][:, 1:].double().flatten(0, 1)
    negative = tokens.where(tokens < 0, torch.nan).nanmean(0).float()
    torch.testing.assert_close(distiller.method.margin0.flatten(), negative)


def test_the_state_is_the_students_and_the_methods() -> None:
    states = {name: skd.Distiller(*pair(), name).state_dict() for name in METHODS}
    own = {name: [k for k in state if k.startswith("method.")] for name, state in states.items()}
    assert [name for name, keys in own.items() if keys] == WITH_STATE
    assert not any(key.startswith("teacher") for state in states.values() for key in state)
    # The matrices of the Fourier transform can be made again.
    assert states["spectral"].keys() == states["overhaul"].keys()


@pytest.mark.parametrize("name", WITH_STATE)
def test_a_state_is_all_there_is(name: str) -> None:
    teacher, student = pair()
    first = skd.Distiller(teacher, student, name)
    first(images(), LABELS)  # the running statistics move
    expected = first.eval()(images(), LABELS)
    second = skd.Distiller(network("wrn10_2", 2), network("wrn10_1", 3), name).eval()
    reading = first.read_teacher(images())
    before = second(images(), LABELS, reading)
    second.load_state_dict(first.state_dict())
    assert any(before[key] != expected[key] for key in expected)
    again = second(images(), LABELS, reading)
    torch.testing.assert_close(again, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", METHODS)
def test_copies_and_pickles_compute_the_same(name: str) -> None:
    distiller = skd.Distiller(*pair(), name).eval()
    expected = distiller(images(), LABELS)
    for other in (copy.deepcopy(distiller), pickle.loads(pickle.dumps(distiller))):
        torch.testing.assert_close(other(images(), LABELS), expected)
        assert other.student is not distiller.student


def test_networks_are_left_as_they_were() -> None:
    teacher, student = pair()
    student.conv.weight.requires_grad_(False)
    before = copy.deepcopy(teacher.state_dict())
    distiller = skd.Distiller(teacher, student, "spectral")
    assert student.conv.weight not in set(distiller.trainable_parameters())
    sum(distiller(images(), LABELS).values()).backward()
    assert teacher.training
    assert all(p.requires_grad and p.grad is None for p in teacher.parameters())
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)
    distiller.eval()
    assert teacher.training
    distiller.close()
    assert hooks(teacher, student) == 0
    assert [n for n, p in student.named_parameters() if not p.requires_grad] == ["conv.weight"]


def test_two_distillers_may_share_a_teacher_in_different_modes() -> None:
    teacher, student = pair()
    alone = [skd.Distiller(*pair(), name)(images(), LABELS) for name in ("kd", "overhaul")]
    torch.manual_seed(0)
    kd, overhaul = (skd.Distiller(teacher, copy.deepcopy(student), n) for n in ("kd", "overhaul"))
    assert kd(images(), LABELS)["kd"].item() == pytest.approx(alone[0]["kd"].item())
    reading = overhaul.read_teacher(images())
    assert not torch.allclose(reading.logits, kd.read_teacher(images()).logits)
    torch.testing.assert_close(
        overhaul(images(), LABELS, reading), overhaul(images(), LABELS), rtol=1e-4, atol=1e-6
    )


def test_to_moves_the_teacher_too() -> None:
    distiller = skd.Distiller(*pair(), "kd").to("meta")
    assert {p.device.type for p in distiller.teacher.parameters()} == {"meta"}
    assert {p.device.type for p in distiller.student.parameters()} == {"meta"}


def test_margins_are_read_from_the_teacher() -> None:
    teacher, student = pair()
    method = skd.Distiller(teacher, student, "overhaul").method
    for number, norm in enumerate((teacher.group2[0].bn1, teacher.group3[0].bn1, teacher.bn)):
        expected = margin(norm.weight, norm.bias).detach()
        torch.testing.assert_close(method.get_buffer(f"margin{number}").flatten(), expected)


# --- under accelerate, autocast and torch.compile -------------------------------------------------


def test_it_can_be_prepared_by_accelerate() -> None:
    distiller = skd.Distiller(*pair(), "spectral")
    expected = distiller(images(), LABELS)
    accelerator = Accelerator(cpu=True)
    optimizer = torch.optim.SGD(distiller.trainable_parameters(), lr=0.1)
    prepared, optimizer = accelerator.prepare(distiller, optimizer)
    terms = prepared(images(), LABELS)
    torch.testing.assert_close(terms, expected, rtol=1e-4, atol=1e-6)
    accelerator.backward(sum(terms.values()))
    optimizer.step()


@pytest.mark.parametrize("name", ["spectral", "dkd+fam", "ab"])
def test_it_compiles_as_one_graph(name: str) -> None:
    distiller = skd.Distiller(*pair(), name)
    expected = distiller(images(), LABELS)
    try:
        compiled = torch.compile(distiller, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(images(), LABELS), expected, rtol=1e-4, atol=1e-5)
        graphs = []

        def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
            graphs.append(graph)
            return graph.forward

        distiller.compile(batch_size=4, backend=backend, fullgraph=True)
        for count in (3, 4):
            assert not graphs
            whole = skd.Distiller(distiller.teacher, distiller.student, distiller.method)
            batch = images(count=count), LABELS[:count]
            torch.testing.assert_close(distiller(*batch), whole(*batch), rtol=1e-4, atol=1e-5)
        assert len(graphs) == 2  # the teacher's pass, the student's with the loss
    finally:
        torch._dynamo.reset()


# --- what is refused ------------------------------------------------------------------------------


def test_what_each_method_reads() -> None:
    """Of logits nothing; some of the map before a stage's ReLU, the rest of its own result."""
    reads = {name: skd.METHODS[name].reads for name in METHODS}
    before_relu = [name for name, layer in reads.items() if layer == "pre_relu"]
    assert before_relu == ["ft", "ab", "overhaul", "spectral", "reviewkd"]
    assert [name for name, layer in reads.items() if layer is None] == OF_LOGITS


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("overhual", r"method: expected one of overhaul.*, got 'overhual'"),
        ("xyz", rf"method: expected one of {', '.join(METHODS)}.*, got 'xyz'"),
        ("nowhere:Method", r"method: expected .*, got 'nowhere:Method'"),
    ],
)
def test_unknown_methods_are_refused_with_the_nearest(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        skd.Distiller(nn.Identity(), nn.Identity(), name)


@pytest.mark.parametrize("name", METHODS)
def test_unknown_options_are_refused_with_the_known(name: str) -> None:
    known = ", ".join(method_options(skd.METHODS[name])) or "none"
    says = f"method '{name}': expected options among {known}, got tempreture, color"
    with pytest.raises(ValueError, match=says):
        skd.Distiller(*pair(), name, tempreture=3, color="red")


@pytest.mark.parametrize("name", METHODS)
def test_networks_of_other_stages_are_refused_where_maps_count(name: str) -> None:
    models = network("wrn10_1", 0), network("mobilenet", 1)
    if name not in OF_LOGITS:
        with pytest.raises(ValueError, match="student: expected 3 stages as the teacher, got 4"):
            skd.Distiller(*models, name)
    else:
        assert skd.Distiller(*models, name)


def test_images_that_do_not_fit_are_explained() -> None:
    class Flat(nn.Module):
        stage_table = (Stage("conv", "conv"),)

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.fc = nn.Linear(4 * 16 * 16, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x).relu().flatten(1))

    with pytest.raises(ValueError, match=r"images: expected the \(3, H, W\) that F"):
        skd.Distiller(Flat(), Flat(), "at")
    assert skd.Distiller(Flat(), Flat(), "at", image_shape=(3, 16, 16))(images(16), LABELS)


def test_other_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="teacher: kd needs one, got None"):
        skd.Distiller(None, nn.Linear(1, 1), "kd")
    with pytest.raises(ValueError, match="options: expected none beside an instance of Similarity"):
        skd.Distiller(*pair(), Similarity(), weight=1.0)
    with pytest.raises(TypeError, match="stage_table"):
        skd.Distiller(torchvision.models.resnet18(), network("wrn10_1", 0), "at")


# --- sums -----------------------------------------------------------------------------------------


class ReadsOutputs(Method):
    reads = "outputs"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("resnet18", nn.Linear(1, 1), "kd"), "teacher: expected a network, got 'resnet18'"),
        ((nn.Linear(1, 1), None, "kd"), "student: expected a network, got None"),
        ((None, nn.ReLU(), "baseline"), "student: expected parameters to train"),
        ((None, nn.Linear(1, 1), METHODS["kd"]), "method: expected a name, an instance"),
        ((nn.ReLU(), nn.Linear(1, 1), ReadsOutputs()), "reads: expected one of 'pre_relu', 'outp"),
    ],
)
def test_what_is_no_network_or_method_is_refused(arguments: tuple[Any, ...], says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        skd.Distiller(*arguments)


@pytest.mark.parametrize("name", ["kd", "dkd", "jacobian"])
def test_networks_of_other_classes_are_refused_where_logits_count(name: str) -> None:
    distiller = skd.Distiller(network("wrn10_1", 0, 10), network("wrn10_1", 1, 7), name)
    with pytest.raises(ValueError, match=r"student: expected logits of \(4, 10\) .*, got \(4, 7\)"):
        distiller(images(), torch.zeros(4, dtype=torch.int64))


def test_a_refusal_leaves_gradients_on() -> None:
    @dataclass(eq=False, repr=False)
    class Wrong(Method):
        @property
        def phases(self) -> tuple[Phase, ...]:
            return (Phase("train", teacher_statistics="train"),)  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="statistics: expected one of"):
        skd.Distiller(*pair(), Wrong())(images(), torch.zeros(4, dtype=torch.int64))
    assert torch.is_grad_enabled()


def test_a_sum_has_the_terms_of_each_and_one_cross_entropy() -> None:
    both = {"kd": {"temperature": 2.0}, "spectral": {"gamma": 0.5}}
    distiller = skd.Distiller(*pair(), both)
    named = skd.Distiller(*pair(), "kd+spectral", **both)
    named.load_state_dict(distiller.state_dict())
    terms = distiller(images(), LABELS)
    assert list(terms) == ["ce", "kd", "overhaul", "l1", "cps"]
    torch.testing.assert_close(named(images(), LABELS), terms)
    # The teacher's statistics are the batch's, as the second asks for.
    assert distiller.phases == skd.METHODS["spectral"]().phases
    reading = distiller.read_teacher(images())
    kd = skd.Distiller(*pair(), "kd", temperature=2.0)(images(), LABELS, reading)
    spectral = skd.Distiller(*pair(), "spectral", gamma=0.5)
    spectral.method.load_state_dict(distiller.method.parts[1].state_dict())
    expected = {**spectral(images(), LABELS, reading), **kd}
    torch.testing.assert_close({name: expected[name] for name in terms}, terms)
    check_training(distiller, "train")


def test_options_of_a_single_method_by_its_name_are_no_sum() -> None:
    distiller = skd.Distiller(*pair(), {"kd": {"temperature": 2.0}})
    assert method_name(distiller.method) == "kd"
    assert distiller.method.temperature == 2.0


def test_a_sum_keeps_every_phase_and_names_apart_what_clashes() -> None:
    distiller = skd.Distiller(*pair(), {"ab": {"init_epochs": 2}, "ft": {}, "kd": {}})
    assert [phase.name for phase in distiller.phases] == ["boundaries", "paraphraser", "train"]
    assert distiller.phases[0].epochs == 2
    found = [list(begun(distiller, p.name)(images(), LABELS)) for p in distiller.phases]
    assert found == [["ab"], ["reconstruction"], ["ab.kd", "ce", "ft", "kd.kd"]]
    assert distiller(images(), LABELS)["ce"] > 0  # AB has none
    for phase in distiller.phases:
        distiller.student.zero_grad(set_to_none=True)
        distiller.method.zero_grad(set_to_none=True)
        check_training(distiller, phase.name)


def test_a_sum_asks_for_what_its_methods_need() -> None:
    logits = skd.Distiller(*pair(), "dkd+baseline")
    assert logits.method.reads is None
    assert logits.method.needs_teacher
    assert skd.Distiller(*pair(), "jacobian+at").method.needs_image_gradient
    check_training(skd.Distiller(*pair(), "jacobian+at"), "train")
    assert skd.Distiller(*pair(), "at+fft_align").method.reads == "output"
    assert not skd.Distiller(*pair(), "at+fft_align").method.needs_margins


def test_a_sum_knows_its_name_and_all_its_options() -> None:
    sum_ = skd.Distiller(*pair(), "kd+at", at={"weight": 2.0}).method
    assert method_name(sum_) == "kd+at"
    options = chosen_options(sum_)["methods"]
    assert options == {"kd": {"temperature": 4.0, "weight": 0.9}, "at": {"weight": 2.0}}
    own = skd.Distiller(*pair(), {"kd": {}, f"{__name__}:Similarity": {"weight": 2.0}})
    assert {"kd", "sp"} <= own(images(), LABELS).keys()


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ({}, {}, "methods: expected two or more, got none"),
        ("kd+at", {"ta": {}}, r"method 'kd\+at': expected options among kd, at, got ta"),
        ("kd+at", {"at": {"gamma": 1}}, "method 'at': expected options among weight, got gamma"),
        ("kd+ta", {}, "method: expected one of .*, got 'ta'"),
        ("at+spectral", {}, "maps that are read alike, got 'output' of at, 'pre_relu' of spectral"),
    ],
)
def test_sums_that_cannot_be(method: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        skd.Distiller(*pair(), method, **options)
