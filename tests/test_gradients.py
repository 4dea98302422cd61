"""Are the gradients of each term those that autograd gives from the maps on?"""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import nn

from spectralkd.analysis.gradients import gradient_norms, gradient_shares
from spectralkd.losses import METHODS
from spectralkd.losses.base import Method, Reading, cross_entropy
from spectralkd.losses.distiller import Distiller
from spectralkd.models import create_model


def small(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear(width * 64, 5),
    )


def test_norms_are_those_of_a_pass_that_starts_at_the_map() -> None:
    torch.manual_seed(0)
    teacher, student = small(4), small(3)
    pairs = [("0", "0"), ("2", "2")]
    distiller = Distiller(teacher, student, "at", layers=pairs, image_shape=(3, 16, 16))
    images, labels = torch.randn(6, 3, 16, 16), torch.randint(5, (6,))
    norms = gradient_norms(distiller, images, labels)

    first = student[0](images).detach().requires_grad_()
    second = student[2](first.relu())
    logits = student[4](second.flatten(1))
    t = distiller.read_teacher(images)
    terms = distiller.method(t, Reading(images, logits, (first, second)), labels)
    for name, term in terms.items():
        expected = torch.autograd.grad(term, (first, second), retain_graph=True)
        found = [norms[name][layer] for layer in ("0", "2")]
        assert found == pytest.approx([float(g.norm()) for g in expected], rel=1e-5), name


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("method", METHODS)
def test_nothing_changes_and_shares_add_up(method: str) -> None:
    torch.manual_seed(0)
    student = create_model("wrn10_1", 10)
    distiller = Distiller(create_model("wrn10_2", 10), student, method)
    distiller.begin(distiller.phases[-1])
    before = {name: value.clone() for name, value in distiller.state_dict().items()}
    hooks = hooks_of(student)
    norms = gradient_norms(distiller, torch.randn(4, 3, 32, 32), torch.arange(4))
    shares = gradient_shares(norms)
    assert sum(shares.values()) == pytest.approx(1)
    assert all(len(of) >= 1 for of in norms.values())
    assert all(0 <= share <= 1 for share in shares.values())
    assert all(torch.equal(v, before[name]) for name, v in distiller.state_dict().items())
    assert all(parameter.grad is None for parameter in distiller.parameters())
    assert distiller.training
    assert hooks_of(student) == hooks


def test_a_term_that_does_not_depend_on_the_maps_does_not_pull() -> None:
    class Own(Method):
        needs_teacher = False

        def forward(self, teacher: Any, student: Any, labels: Any, phase: str = "train") -> Any:
            free = next(own.parameters()).square().sum()
            return {"ce": cross_entropy(student, labels), "free": free}

    own = create_model("wrn10_1", 10)
    norms = gradient_norms(Distiller(None, own, Own()), torch.randn(4, 3, 32, 32), torch.arange(4))
    assert set(norms["free"].values()) == {0.0}
    assert gradient_shares(norms) == {"ce": 1.0, "free": 0.0}


def test_a_network_without_stages_has_no_maps_to_pull_at() -> None:
    student = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))
    distiller = Distiller(create_model("wrn10_1", 10), student, "kd", image_shape=(3, 8, 8))
    assert gradient_norms(distiller, torch.randn(4, 3, 8, 8), torch.arange(4)) == {}


def test_nothing_is_kept_of_the_graph() -> None:
    """A graph that stays until Python collects cycles would be in the way of a CUDA graph."""
    distiller = Distiller(None, create_model("wrn10_1", 3), "baseline")
    before = {id(tensor) for tensor in graphs()}
    gc.disable()
    try:
        gradient_norms(distiller, torch.randn(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64))
        assert not [tensor for tensor in graphs() if id(tensor) not in before]
    finally:
        gc.enable()


def graphs() -> list[torch.Tensor]:
    """Tensors with a graph behind them that are alive."""
    alive = [thing for thing in gc.get_objects() if isinstance(thing, torch.Tensor)]
    return [tensor for tensor in alive if tensor.grad_fn is not None]
