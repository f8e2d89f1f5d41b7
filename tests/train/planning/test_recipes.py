"""docs/recipes.md has the table that the plan's formulas give, and every recipe fits its card."""

from pathlib import Path

import pytest

from models.errors import NotFound
from train.planning.machines import GPUS, find_gpu
from train.planning.recipes import RECIPES, expect, table

_PAGE = Path(__file__).parents[3] / "docs" / "recipes.md"


@pytest.mark.training
@pytest.mark.long
def test_the_page_has_the_table_and_every_recipe_fits() -> None:
    assert table() in _PAGE.read_text("utf-8")
    for recipe in RECIPES:
        assert expect(recipe).memory_share < 0.9, recipe


def test_an_unknown_gpu_is_named_with_the_known_ones() -> None:
    assert find_gpu("rtx-4090").machine.memory == 24 * 2**30
    with pytest.raises(NotFound, match=", ".join(GPUS)):
        find_gpu("rtx-9999")
