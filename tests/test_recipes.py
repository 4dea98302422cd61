"""Are the recipes the paper's and the reference code's?"""

from __future__ import annotations

import pytest

from spectralkd.models import MODELS
from spectralkd.recipes import RECIPES, get_recipe, recipe_options


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
        (lambda: get_recipe("c", epoch=3), "recipe: unknown fields epoch"),
        (lambda: get_recipe("c", epochs=0), "epochs: expected at least 1, got 0"),
        (lambda: get_recipe("c", drops=(100,)), "drops: expected parts of the epochs"),
        (lambda: get_recipe("c", precision="fp8"), "precision: expected one of"),
    ],
)
def test_what_is_no_recipe_is_refused(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
