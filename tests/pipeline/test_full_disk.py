"""A disk that is full: the task fails, nothing half-written is taken for done, and a rerun makes the same bytes.

A limit on the size of files stands in for the disk (`RLIMIT_FSIZE`): the system refuses the same writes in the same
places, and needs no rights.
"""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.corpus import fingerprint, prose, write_texts
from tests.pipeline.runs import newest, run_inline
from tokenmill.pipeline import checks
from tokenmill.pipeline.storage import Storage

RECIPE = """
name: full
output: unused
seed: 3
part_bytes: 24KiB
tokenizer: {train: {vocab_size: 512, sample_bytes: 1MiB}}
sources:
  - {name: notes, reader: jsonl, paths: ["FOLDER/notes.jsonl"], root: "FOLDER"}
sequences: {length: 64}
mixture: {weights: {notes: 1}}
"""
IN_A_PROCESS = """
import resource, sys
from pathlib import Path
from tests.pipeline.runs import run_inline
limit = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
run_inline(Path(sys.argv[1]), sys.argv[2])
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The recipe, and what its run makes where there is room."""
    folder = tmp_path_factory.mktemp("full")
    write_texts(folder / "notes.jsonl", [prose(f"full {number}", 1 + number % 9) for number in range(120)])
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("FOLDER", str(folder)))
    run_inline(recipe, folder / "out")
    return recipe, fingerprint(folder / "out")


def fails_with_files_of(recipe: Path, output: Path, limit: int) -> str:
    """Run the recipe where no file may grow beyond `limit` bytes; what it printed."""
    command = [sys.executable, "-c", IN_A_PROCESS, str(recipe), str(output), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode, f"a limit of {limit} bytes hindered nothing"
    assert done.returncode != -signal.SIGXFSZ
    assert "File too large" in done.stderr
    return done.stderr


def lost(output: Path, folder: str) -> int:
    """Delete what lies in a folder, and the receipts of what made it; the size of the largest of these files."""
    sizes = {path: size for path, size in Storage(str(output)).sizes().items() if path.startswith(folder)}
    for path in sizes:
        (output / path).unlink()
    return max(sizes.values())


@pytest.mark.parametrize("folder", ["documents", "sequences", "manifests"])
def test_nothing_half_written_is_taken_for_done(whole: tuple[Path, dict[str, str]], folder: str, tmp_path: Path):
    recipe, expected = whole
    output = tmp_path / "out"
    run_inline(recipe, output)
    largest = lost(output, folder)
    before = fingerprint(output)
    fails_with_files_of(recipe, output, largest - 1 if folder != "manifests" else 100)
    after = fingerprint(output)
    assert {path: after.get(path) for path in before} == before
    made = {path: digest for path, digest in after.items() if path not in before}
    assert {path: expected[path] for path in made if path in expected} == {
        p: d for p, d in made.items() if p in expected
    }
    assert all(path in expected or path.startswith("receipts/") for path in made)
    assert list((output / "tmp").iterdir()) == []  # what was being written takes no room
    run_inline(recipe, output)
    assert {p: d for p, d in fingerprint(output).items() if p in expected} == expected
    assert not [finding for _, finding in checks.verify(Storage(str(output)), newest(output)) if finding]


def test_the_limit_is_of_the_child_alone():
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
