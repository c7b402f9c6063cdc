"""Cycles are looked for seldom while a task runs, and behind it as before."""

import gc
from pathlib import Path

import pytest

from tests.pipeline.corpus import write_corpus, write_recipe
from tokenmill.pipeline.recipe.file import load_recipe
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tasks import GlobalItem, Shared, global_task


def test_as_before_behind_a_task_even_one_that_raises(tmp_path: Path):
    recipe = load_recipe(write_recipe(write_corpus(tmp_path)).read_text(), "r.yaml").recipe
    before, seen = gc.get_threshold(), []

    def raises(*_: object) -> None:
        seen.append(gc.get_threshold())
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        global_task(Shared(recipe, Storage(str(tmp_path))), GlobalItem(raises, {}, ()))
    assert all(meanwhile > at_rest for meanwhile, at_rest in zip(seen[0], before, strict=True))
    assert gc.get_threshold() == before
