# SPDX-License-Identifier: Apache-2.0
"""Recipes by model, and changes of them."""

from __future__ import annotations

import pytest

from common.errors import UnsupportedError
from mapping.search.recipes import RECIPES, recipe_of
from mapping.search.training import Recipe


def test_a_model_has_its_recipe_or_the_default() -> None:
    assert recipe_of("digits", {}) == RECIPES["digits"] != Recipe()
    assert recipe_of("resnet8", {}) == Recipe()


def test_changes_have_the_types_of_their_entries() -> None:
    recipe = recipe_of("resnet8", {"search_epochs": "10", "rate": "0.5"})
    assert recipe == Recipe(search_epochs=10, rate=0.5)
    assert isinstance(recipe.search_epochs, int)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("epochs", "3", "a recipe has warmup_epochs, "),
        ("temperature", "3", "a recipe has warmup_epochs, "),
        ("rate", "fast", "give a number, as in rate=0.002"),
        ("batch", "0", "it is too small"),
        ("cost_evaluations", "0", "it is too small"),
        ("rate", "-1", "it is too small"),
    ],
)
def test_other_changes_are_refused_by_name(name: str, value: str, says: str) -> None:
    with pytest.raises(UnsupportedError, match=says) as refusal:
        recipe_of("digits", {name: value})
    assert str(refusal.value).startswith(f"--train {name}={value}: ")
