"""Are the recipes the paper's and the reference code's?"""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from spectralkd.losses import METHODS
from spectralkd.models import MODELS
from spectralkd.training import accelerator
from spectralkd.training.recipes import RECIPES, get_recipe, parse_value, recipe_options


@pytest.mark.parametrize("name", "abcdef")
def test_cifar_setups_as_the_paper_says(name: str) -> None:
    recipe = get_recipe(name)
    assert (recipe.epochs, recipe.lr, recipe.momentum, recipe.weight_decay) == (200, 0.1, 0.9, 1e-4)
    assert (recipe.alpha, recipe.beta, recipe.gamma) == (1e-4, 1e-4, 0.01)
    assert recipe.batch_size == (64 if name in "ef" else 128)
    assert [recipe.lr_at(epoch) for epoch in (0, 99)] == [0.1, 0.1]
    assert [recipe.lr_at(epoch) for epoch in (100, 149)] == pytest.approx([0.01, 0.01])
    assert recipe.lr_at(150) == pytest.approx(0.001)
    assert {recipe.teacher_model, recipe.student_model} <= set(MODELS)


def test_cifar_setups_as_the_reference_code_does() -> None:
    recipe = get_recipe("c", "heo")
    assert (recipe.weight_decay, recipe.nesterov, recipe.restart_momentum) == (5e-4, True, True)
    assert recipe.alpha == 1e-3
    assert recipe.drop_epochs() == (100, 150)


def test_imagenet() -> None:
    paper, heo = get_recipe("imagenet"), get_recipe("imagenet", "heo")
    assert (paper.teacher_model, paper.student_model) == ("resnet50", "mobilenet")
    assert (paper.batch_size, paper.epochs, paper.drop_epochs()) == (256, 100, (30, 60, 90))
    assert (paper.alpha, paper.beta, paper.gamma) == (1e-5, 1e-5, 1e-3)
    assert (heo.alpha, heo.weight_decay, heo.nesterov) == (1e-4, 1e-4, True)
    assert heo.drop_epochs() == (29, 59, 89)  # one epoch earlier in the reference code


def test_the_demo_is_the_one_whose_errors_the_readme_tells() -> None:
    recipe = get_recipe("demo")
    assert (recipe.teacher_model, recipe.student_model) == ("wrn16_2", "wrn10_1")
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.drops) == (4, 30, 0.1, (0.5, 0.75))
    assert (recipe.nesterov, recipe.weight_decay, recipe.momentum) == (True, 5e-4, 0.9)
    assert (recipe.alpha, recipe.beta, recipe.gamma) == (1e-3, 1e-3, 1e-2)


@pytest.mark.parametrize("drops", [(0.0, 0.5), (0.5, 1.0), (0.6, 0.5), (0.5, float("nan"))])
def test_drops_are_growing_fractions(drops: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"drops: expected growing fractions in \(0, 1\), got"):
        get_recipe("c", drops=drops)


@pytest.mark.parametrize(
    ("epochs", "drops"),
    [(1, (1, 2)), (2, (1, 2)), (3, (1, 2)), (4, (2, 3)), (10, (5, 7)), (30, (15, 22))],
)
def test_short_runs_begin_at_the_initial_rate_and_drop_once_at_a_time(
    epochs: int, drops: tuple[int, ...]
) -> None:
    recipe = get_recipe("c", epochs=epochs)
    assert recipe.drop_epochs() == drops
    rates = [recipe.lr_at(epoch) for epoch in range(epochs)]
    assert rates[0] == 0.1
    assert all(a / b < 11 for a, b in itertools.pairwise(rates))


def test_texts_become_values() -> None:
    kinds = {name: kind for name, (kind, _) in recipe_options().items()}

    def parsed(name: str, text: str) -> object:
        return parse_value(name, kinds[name], text)

    assert parsed("epochs", " 7 ") == 7
    assert parsed("lr", "1e-3") == 1e-3
    assert parsed("drops", "0.3, 0.6") == (0.3, 0.6)
    assert parsed("nesterov", "True") is True
    assert parsed("root", "") is None
    assert parsed("train_images", "50") == 50
    assert parsed("precision", "bf16") == "bf16"
    wrong = {"epochs": "3.5", "lr": "fast", "nesterov": "yes", "train_images": "x", "drops": "a"}
    for name, text in wrong.items():
        with pytest.raises(ValueError, match=rf"{name}: expected .*, got '{text}'"):
            parsed(name, text)
    with pytest.raises(ValueError, match="precision: expected one of 'auto', 'float32', 'bf16'"):
        parsed("precision", "half")
    assert [parse_value("w", None | float, text) for text in ("2", "")] == [2.0, None]
    assert parse_value("w", float | str | None, "2") == 2.0
    for kind in (list[str], dict[str, float]):
        with pytest.raises(ValueError, match="sizes: expected a type that text can name"):
            parse_value("sizes", kind, "a,b")


def test_mixup_is_that_of_the_reference_codes_last_teachers() -> None:
    for preset, setups in (("paper", ""), ("heo", "ef")):
        assert "".join(n for n in "abcdef" if get_recipe(n, preset).mixup) == setups  # type: ignore[arg-type]


def test_any_field_can_be_changed_and_schedules_follow_the_epochs() -> None:
    recipe = get_recipe("a", epochs=20, seed=3)
    assert recipe.drop_epochs() == (10, 15)
    assert (recipe.seed, recipe.setup, recipe.preset) == (3, "a", "paper")
    assert set(recipe_options()) == set(vars(recipe)) - {"setup", "preset"}
    assert all(text.endswith(".") for _, text in recipe_options().values())


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: get_recipe("g"), f"recipe: expected one of {', '.join(RECIPES)}, got 'g'"),
        (lambda: get_recipe("c", "hinton"), "preset: expected one of 'paper', 'heo'"),
        (lambda: get_recipe("c", epoch=3), "recipe: expected a field such as epochs.*, got epoch"),
        (lambda: get_recipe("c", epochs=0), "epochs: expected a whole number in .*, got 0"),
        (lambda: get_recipe("c", drops=(100,)), "drops: expected growing fractions in"),
        (lambda: get_recipe("c", drops=(0.6, 0.3)), "drops: expected growing fractions in"),
        (lambda: get_recipe("c", drops=(math.nan,)), "drops: expected growing fractions in"),
        (lambda: get_recipe("c", epochs=1.5), "epochs: expected a whole number in .*, got 1.5"),
        (lambda: get_recipe("c", epochs=True), "epochs: expected a whole number in .*, got True"),
        (lambda: get_recipe("c", lr=math.nan), "lr: expected a number of at least 0, got nan"),
        (lambda: get_recipe("c", lr=math.inf), "lr: expected a number of at least 0, got inf"),
        (lambda: get_recipe("c", lr=-1), "lr: expected a number of at least 0, got -1"),
        (lambda: get_recipe("c", lr="0.1"), "lr: expected a number of at least 0, got '0.1'"),
        (lambda: get_recipe("c", momentum=2.0), r"momentum: expected a number in \[0, 1\), got 2"),
        (lambda: get_recipe("c", momentum=0.0, nesterov=True), "momentum: expected more than 0"),
        (lambda: get_recipe("c", drop_factor=-1), r"drop_factor: expected a number in \(0, 1\]"),
        (
            lambda: get_recipe("c", seed=2**70),
            r"seed: expected a whole number in \[0, 4294967295\]",
        ),
        (lambda: get_recipe("c", train_images=0), "train_images: expected a whole number in"),
        (
            lambda: get_recipe("c", batch_size=1),
            "batch_size: expected a whole number in",
        ),
        (lambda: get_recipe("c", root=""), "root: expected a name, got ''"),
        (lambda: get_recipe("c", student_model="a\0b"), "student_model: expected a name"),
        (lambda: get_recipe("c", precision="fp8"), "precision: expected one of"),
    ],
)
def test_what_is_no_recipe_is_refused(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ("kd", {"temperature": 0.0}, "temperature: expected a number above 0, got 0.0"),
        ("kd", {"weight": 1.5}, r"weight: expected a number in \[0, 1\], got 1.5"),
        ("ab", {"init_epochs": -1}, "init_epochs: expected a whole number of at least 0, got -1"),
        ("ft", {"paraphraser_lr": math.nan}, "paraphraser_lr: expected a number of at least 0"),
        ("fitnets", {"stage": 1.5}, "stage: expected a whole number of at least 0, got 1.5"),
        ("spectral", {"gamma": -1.0}, "gamma: expected a number of at least 0, got -1.0"),
        ("jacobian", {"of": "student"}, "of: expected one of 'label', 'teacher'"),
    ],
)
def test_options_out_of_their_range_are_refused(
    method: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        METHODS[method](**options)


@pytest.mark.parametrize(
    ("units", "says"),
    [({}, ""), ({"avx512_bf16": True}, "0.6"), ({"avx512_bf16": True, "amx_bf16": True}, "0.4")],
)
def test_a_processor_with_bf16_units_is_told(
    units: dict[str, bool], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerator, "cpu_capabilities", lambda: units)
    monkeypatch.setattr(accelerator.torch.cuda, "is_available", lambda: False)
    hint = accelerator.faster_precision(get_recipe("c"))
    assert says in hint
    assert bool(says) == bool(hint)
    assert accelerator.faster_precision(get_recipe("c", precision="float32")) == ""
