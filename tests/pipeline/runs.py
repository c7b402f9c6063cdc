"""Run recipes in tests, in this process or as a user would."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tokenmill.pipeline.executors import open_executor
from tokenmill.pipeline.opened import OpenedRun, open_run
from tokenmill.pipeline.opened_units import OpenedUnits, open_units
from tokenmill.pipeline.prepare import prepare
from tokenmill.pipeline.progress import Quiet
from tokenmill.pipeline.recipe.file import load_recipe
from tokenmill.pipeline.run import Run
from tokenmill.pipeline.sheet import published_or_error
from tokenmill.pipeline.steps.publish import Published
from tokenmill.pipeline.storage import Storage

TOKENMILL = Path(sys.executable).parent / "tokenmill"


def run_inline(recipe: Path, output: Path | str) -> tuple[Published, list[str]]:
    """Run a recipe in this process; what was published, and the names of the tasks that were run."""
    recipe_file = load_recipe(recipe.read_text(), str(recipe))
    storage = Storage(str(output))
    parts = prepare(recipe_file, storage)
    with open_executor("inline") as executor:
        run = Run(recipe_file, storage, executor, Quiet())
        published = run.go(parts)
    return published, [entry["task"] for entry in run.log]


def newest(output: Path | str) -> Published:
    """The newest version of a run."""
    return published_or_error(Storage(str(output)))


def opened(output: Path | str) -> OpenedRun:
    """The newest version of a run, to be looked at."""
    storage = Storage(str(output))
    return open_run(storage, published_or_error(storage))


def opened_with_units(output: Path | str) -> tuple[OpenedRun, OpenedUnits]:
    """The newest version of a run, and what was packed of it."""
    run = opened(output)
    return run, open_units(run.storage, newest(output), run.recipe_file.recipe)


def tokenmill(*arguments: str, env: Mapping[str, str] | None = None, check: bool = True) -> str:
    """Run the command; its standard output. With `check`, a failure shows what it printed."""
    done = subprocess.run(
        [TOKENMILL, *arguments], capture_output=True, text=True, env={**os.environ, **(env or {})}, check=False
    )
    if check and done.returncode:
        raise AssertionError(
            f"tokenmill {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout if check else done.stdout + done.stderr
