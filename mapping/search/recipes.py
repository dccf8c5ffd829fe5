# SPDX-License-Identifier: Apache-2.0
"""How models are trained and searched unless the user says otherwise: recipes and strengths by model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from common.errors import UnsupportedError
from mapping.search.training import Recipe

RECIPES = {"digits": Recipe(warmup_epochs=40, search_epochs=20, finetune_epochs=20, integer_epochs=4)}
"""Recipes by model; others take the defaults of Recipe."""
STRENGTHS = {"digits": (0.03, 0.1, 0.3, 1.0)}
"""Strengths of the cost in the loss by model, where a study is asked for neither strengths nor targets."""
DEFAULT_STRENGTHS = (0.1, 0.3, 1.0, 3.0)
"""Strengths of other models."""


def recipe_of(model: str, changes: Mapping[str, str]) -> Recipe:
    """Return a model's recipe, with changes.

    Args:
        model: name of the model.
        changes: values by entry, as text: `{"search_epochs": "10"}`.

    Raises:
        UnsupportedError: there is no such entry, or the value is no number, or too small.
    """
    recipe = RECIPES.get(model, Recipe())
    known = {item.name: getattr(recipe, item.name) for item in fields(Recipe) if item.name != "temperature"}
    values: dict[str, Any] = {}
    for name, value in changes.items():
        if name not in known:
            raise UnsupportedError(f"--train {name}={value}: a recipe has {', '.join(known)}")
        try:
            values[name] = type(known[name])(value)
        except ValueError:
            raise UnsupportedError(
                f"--train {name}={value}: give a number, as in {name}={known[name]}"
            ) from None
        if values[name] < 0 or (name in ("batch", "cost_evaluations") and values[name] < 1):
            raise UnsupportedError(f"--train {name}={value}: it is too small")
    return replace(recipe, **values)
