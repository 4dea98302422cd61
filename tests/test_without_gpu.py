"""What a step asks of a GPU, as far as it can be proven without one."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from test_distiller import PHASES, begun
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from spectralkd.losses.distiller import Distiller
from spectralkd.losses.spectral_fused import fused_terms
from spectralkd.models import create_model
from spectralkd.spectra.rings import Rings
from spectralkd.training import cuda_graph
from spectralkd.training.accelerator import make_accelerator
from spectralkd.training.recipes import get_recipe
from spectralkd.training.step import Step

# What makes the host wait for the device: reading a value, or a shape that depends on values.
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique")


class Waits(TorchDispatchMode):
    """Notes each operation that waits, and each tensor made of Python numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if name == "lift_fresh":
            self.seen.append("a tensor of numbers")
        if any(name.startswith(wait) for wait in WAITS):
            self.seen.append(name)
        indices = args[1] if name in ("index", "index_put", "index_put_") else ()
        if any(isinstance(i, Tensor) and i.dtype == torch.bool for i in indices):
            self.seen.append(f"{name} by a mask")
        return func(*args, **(kwargs or {}))


def distilled(method: str, phase: str = "train", **options: Any) -> Distiller:
    torch.manual_seed(0)
    networks = create_model("wrn10_2", 10), create_model("wrn10_1", 10)
    return begun(Distiller(*networks, method, **options), phase)


def test_the_count_of_waits_can_fail() -> None:
    x = torch.arange(4.0)
    with Waits() as waits:
        x[x > 1].sum().item()
        x + torch.tensor([1.0])
    assert waits.seen == ["index by a mask", "_local_scalar_dense", "a tensor of numbers"]


@pytest.mark.parametrize(("method", "phase", "options"), PHASES)
def test_no_step_waits_for_the_device(method: str, phase: str, options: dict[str, Any]) -> None:
    distiller = distilled(method, phase, **options)
    optimizer = torch.optim.SGD(distiller.trainable_parameters(), 0.1, 0.9, foreach=True)
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    with Waits() as waits:
        for _ in range(2):
            torch.stack(list(distiller(images, labels).values())).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert waits.seen == []


@pytest.fixture
def cuda_autocast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Autocast for CUDA is switched off where there is none."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    yield
    torch.compiler.reset()


def on_fake_cuda(network: nn.Module) -> nn.Module:
    """Parameters and buffers replaced by tensors of a CUDA device, without values."""
    for module in network.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            fake = torch.empty(value.shape, dtype=value.dtype, device="cuda")
            module._parameters[name] = nn.Parameter(fake, requires_grad=value.requires_grad)
        for name, value in list(module.named_buffers(recurse=False)):
            module._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device="cuda")
    return network


@pytest.mark.parametrize(("method", "phase", "options"), [p for p in PHASES if p[0] != "jacobian"])
def test_each_step_is_one_graph_for_cuda_in_bf16(
    method: str, phase: str, options: dict[str, Any], cuda_autocast: None
) -> None:
    """Teacher, student and loss traced without a break; values there are none."""
    distiller = distilled(method, phase, **options)
    assert distiller.teacher is None or method != "baseline"
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        on_fake_cuda(distiller)
        if distiller.teacher is not None:
            on_fake_cuda(distiller.teacher)
        images = torch.empty(4, 3, 32, 32, device="cuda")
        labels = torch.zeros(4, dtype=torch.long, device="cuda")
        with torch.autocast("cuda", torch.bfloat16):
            teacher = distiller.read_teacher(images)
            if distiller.teacher is not None:
                assert teacher.logits.dtype == torch.bfloat16
            step = torch.compile(distiller.terms, backend="aot_eager", fullgraph=True)
            terms = step(images, labels, teacher)
    assert all(term.dtype == torch.float32 for term in terms.values())
    assert all(term.device.type == "cuda" for term in terms.values())


@pytest.mark.parametrize("inside", [True, False])
def test_the_compiled_backward_pass_is_in_float32(inside: bool) -> None:
    """A backward pass that is compiled under autocast would inherit it."""
    rings = Rings(8, 8).to(torch.float32)
    t, s = torch.randn(2, 16, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def cps(student: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return fused_terms(t, student, rings, 1e-2)[1]

    gradients = []
    for call in (cps, torch.compile(cps, backend="aot_eager", fullgraph=True)):
        student = s.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            term = call(student)
            if inside:
                term.backward()
        if not inside:
            term.backward()
        gradients.append(student.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-6, atol=0)
    torch.compiler.reset()


def test_an_evaluation_between_epochs_does_not_compile_again() -> None:
    counted = []

    def backend(graph: Any, _: Any) -> Any:
        counted.append(graph)
        return graph

    distiller = distilled("spectral")
    step = torch.compile(distiller.terms, backend=backend, fullgraph=True)
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    for _ in range(3):
        step(images, labels, distiller.read_teacher(images))
        state = copy.deepcopy(distiller.student.training)
        distiller.student.eval()
        with torch.no_grad():
            distiller.student(torch.randn(7, 3, 32, 32))
        distiller.student.train(state)
    assert len(counted) == 1
    torch.compiler.reset()


def test_memory_of_a_replayed_step_is_the_batchs_own() -> None:
    seen = []
    step = cuda_graph.Replayed(lambda images, labels: [images.sum() + labels.sum()], size=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_graph, "aside", lambda call: call())
        patch.setattr(cuda_graph, "record", lambda call: partial(call))
        for number in range(6):
            (value,) = step(torch.full((2, 1), float(number)), torch.zeros(2))
            seen.append(float(value))
        (small,) = step(torch.ones(1, 1), torch.zeros(1))
    assert seen == [0, 2, 4, 6, 8, 10]
    assert small == 1


@pytest.mark.parametrize("required", [True, False])
def test_a_step_that_cannot_be_recorded_goes_on_or_is_refused(required: bool) -> None:
    def refused(_: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    step = cuda_graph.Replayed(lambda images, _: [images.sum()], size=1, required=required)
    one = torch.ones(1), torch.zeros(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_graph, "aside", lambda call: call())
        patch.setattr(cuda_graph, "record", refused)
        for _ in range(cuda_graph.WARM_UP):
            step(*one)
        if required:
            with pytest.raises(RuntimeError, match="not permitted"):
                step(*one)
        else:
            with pytest.warns(UserWarning, match="not replayed as CUDA graphs"):
                step(*one)
            assert [float(v) for v in step(*one)] == [1]


def test_a_step_that_draws_on_the_cpu_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "aside", lambda call: call())
    step = cuda_graph.Replayed(lambda images, _: [torch.rand(1)], 1, draws=lambda: True)
    for _ in range(cuda_graph.WARM_UP):
        step(torch.ones(1), torch.zeros(1))
    with pytest.raises(RuntimeError, match="draw random numbers on the CPU"):
        step(torch.ones(1), torch.zeros(1))


class Breaks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise RuntimeError("not while recording")


class Breaking(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        broken: Tensor = Breaks.apply(x)
        return broken


def test_a_step_that_fails_leaves_no_gradients(tmp_path: Path) -> None:
    student = nn.Sequential(nn.Flatten(), nn.Linear(48, 4), Breaking(), nn.Linear(4, 3))
    distiller = Distiller(None, student, "baseline")
    recipe = get_recipe("demo")
    step = Step(distiller, recipe, make_accelerator(recipe, tmp_path))
    with pytest.raises(RuntimeError, match="not while recording"):
        step(torch.randn(2, 3, 4, 4), torch.arange(2), {})
    assert all(parameter.grad is None for parameter in student.parameters())
