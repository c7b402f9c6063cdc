"""*deduplicate* run again: after `gc`, after a kill in each round, over damaged files, with files in another order."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.pipeline.corpus import fingerprint
from tests.pipeline.runs import run_inline
from tests.pipeline.test_dedup_whole import few_at_a_time, write_notes
from tokenmill.pipeline import checks, dedup_rounds, exchange
from tokenmill.pipeline.dedup_rounds import summary
from tokenmill.pipeline.executors import Failed, InlineExecutor, RunFailedError
from tokenmill.pipeline.prepare import prepare
from tokenmill.pipeline.progress import Quiet
from tokenmill.pipeline.recipe.file import load_recipe
from tokenmill.pipeline.run import Run
from tokenmill.pipeline.steps.publish import versions
from tokenmill.pipeline.storage import Storage

RECIPE = """
name: again
part_bytes: 8 KiB
tokenizer: {train: {vocab_size: 300}}
sources:
  - {name: notes, reader: jsonl, paths: PATHS, root: "{folder}/notes"}
  - {name: pages, reader: jsonl, paths: ["{folder}/pages/*.jsonl"], priority: 1}
dedup: DEDUP
sequences: {length: 64, unit_bytes: 20 KB}
"""
GLOB = '["{folder}/notes/*.jsonl"]'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_notes(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    with few_at_a_time():
        yield


def recipe_in(folder: Path, dedup: str, paths: str = GLOB) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.replace("PATHS", paths).replace("{folder}", str(folder)).replace("DEDUP", dedup))
    return path


def rounds_in(tasks: Sequence[str]) -> set[str]:
    return {task.split(" of ")[0] for task in tasks if task.startswith("dedup")}


def test_after_gc_nothing_is_run_until_something_changes(folder: Path) -> None:
    recipe, output = recipe_in(folder, "{}"), folder / "out"
    before, ran = run_inline(recipe, output)
    assert len(rounds_in(ran)) > 12
    storage = Storage(str(output))
    garbage = checks.garbage(storage, versions(storage))
    assert {path.split("/")[0] for path in garbage} == {"dedup"}
    for path in garbage:
        storage.delete(path)
    files = fingerprint(output)
    written = {path: (output / path).stat().st_mtime_ns for path in files if not path.startswith("manifests/")}
    again, ran = run_inline(recipe, output)
    assert (again.path, ran, fingerprint(output)) == (before.path, [], files)
    assert {path: (output / path).stat().st_mtime_ns for path in written} == written

    changed, ran = run_inline(recipe_in(folder, "{threshold: 0.6}"), output)
    assert len(rounds_in(ran)) > 12
    assert changed.value == run_inline(recipe, folder / "whole")[0].value

    named = checks.named_files(storage, changed, checks.receipts_in(storage, changed))
    (output / max(path for path in named if path.startswith("ledger/"))).unlink()
    again, ran = run_inline(recipe, output)
    assert (again.path, len(ran), rounds_in(ran)) == (changed.path, 1, {"deduplicate"})


def test_the_summary_knows_of_every_round() -> None:
    folder = Path(dedup_rounds.__file__).parent
    versioned = {path.stem for path in folder.glob("*.py") if "\nVERSION = " in path.read_text()}
    assert versioned == {module.__name__.rpartition(".")[2] for module in summary._ROUNDS} | {"summary"}


def flip(path: Path, place: int) -> None:
    """Change one bit."""
    held = bytearray(path.read_bytes())
    held[place] ^= 8
    path.write_bytes(held)


@pytest.mark.parametrize(
    ("kind", "changed", "place"),  # in what is read of the file
    [
        ("signals/minhash", "threshold: 0.5", 2000),
        ("signals/hashes", "survivor: []", 200),
        ("dedup/carry", "threshold: 0.5", 2000),
    ],
)
def test_a_damaged_file_is_named_and_without_it_all_is_as_it_was(
    folder: Path, kind: str, changed: str, place: int
) -> None:
    """Nor need it be named when its size is not what its receipt says: it is made anew."""
    output, bands = folder / "out", "bands: 14, rows: 8"
    run_inline(recipe_in(folder, f"{{{bands}}}"), output)
    path = max(output.glob(f"{kind}/**/*.*"), key=lambda path: path.stat().st_size)
    written = path.read_bytes()
    recipe = recipe_in(folder, f"{{{changed}, {bands}}}")
    run_inline(recipe, folder / "unbroken")

    flip(path, place)
    with pytest.raises(RunFailedError, match=rf"cannot read {path}.*delete it and run"):
        run_inline(recipe, output)
    path.unlink()
    run_inline(recipe, output)
    assert path.read_bytes() == written
    found, expected = fingerprint(output), fingerprint(folder / "unbroken")
    named = [path for path in expected if not path.startswith("receipts/")]
    assert {path: found.get(path) for path in named if "/run-" not in path} == {
        path: expected[path] for path in named if "/run-" not in path
    }

    path.write_bytes(written[:-20])
    run_inline(recipe_in(folder, f"{{threshold: 0.6, {bands}}}"), output)
    assert path.read_bytes() == written


class Stopping(InlineExecutor):
    """Dies when the first task of a round is done: once in each round."""

    def __init__(self) -> None:
        self.stopped: set[tuple[str, str]] = set()

    def map(self, function: Callable[[Any, Any], Any], shared: Any, items: Any) -> Iterator[tuple[int, Any]]:
        """See Executor."""
        items = list(items)
        for index, result in super().map(function, shared, items):
            asked = getattr(items[index], "function", function)
            if "dedup_rounds" in asked.__module__ and not isinstance(result, Failed):
                this = (asked.__name__, result.receipts[0].step)  # stars are two rounds of one function
                if this not in self.stopped:
                    self.stopped.add(this)
                    raise KeyboardInterrupt
            yield index, result


@contextmanager
def merging() -> Iterator[None]:
    with mock.patch.object(exchange, "FAN_OUT", 4):
        yield


def test_a_run_killed_once_in_each_round_ends_with_the_same_bytes(folder: Path) -> None:
    recipe = recipe_in(folder, "{verify: text, threshold: 0.6}")
    with merging():
        _, ran = run_inline(recipe, folder / "unbroken")
        executor, storage = Stopping(), Storage(str(folder / "killed"))
        file = load_recipe(recipe.read_text(), str(recipe))
        for _ in range(len(rounds_in(ran))):
            with pytest.raises(KeyboardInterrupt):
                Run(file, storage, executor, Quiet()).go(prepare(file, storage))
        Run(file, storage, executor, Quiet()).go(prepare(file, storage))
    assert len(rounds_in(ran)) == len(executor.stopped) == 25
    assert fingerprint(folder / "killed") == fingerprint(folder / "unbroken")


def test_files_in_another_order_make_the_same_bytes(folder: Path) -> None:
    paths = sorted(str(path) for path in (folder / "notes").iterdir())
    found = []
    for index, order in enumerate([paths, paths[::-1], [*paths[2:], *paths[:2]]]):
        output = folder / f"out{index}"
        run_inline(recipe_in(folder, "{verify: text}", str(order)), output)
        found.append({path: hash for path, hash in fingerprint(output).items() if "manifests/run-" not in path})
    assert found[0] == found[1] == found[2]
