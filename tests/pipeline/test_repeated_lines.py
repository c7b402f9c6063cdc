"""The filter `repeated_lines` in a run: what the obvious version leaves, however parts and ranges are cut."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.filters.slow_repeated_lines import cleaned
from tests.pipeline.corpus import fingerprint, prose, write_recipe, write_texts
from tests.pipeline.runs import newest, run_inline
from tokenmill.filters.repeated_lines import RepeatedLinesParams
from tokenmill.pipeline import exchange
from tokenmill.pipeline.checks import garbage, verify
from tokenmill.pipeline.edited import edited_texts
from tokenmill.pipeline.executors import InlineExecutor
from tokenmill.pipeline.prepare import prepare
from tokenmill.pipeline.progress import Quiet
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.run import Run
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import open_groups, read_table

RECIPE = """
name: lines
output: unused
part_bytes: 8KiB
tokenizer: {train: {vocab_size: 300, sample_bytes: 1MiB}}
sources:
  - name: notes
    reader: jsonl
    paths: ["{folder}/notes/*.jsonl"]
    root: "{folder}/notes"
    gates: {max_characters: 3000, sample_fraction: 1.0}
    filters: [{c4: {min_sentences: null}}, {repeated_lines: {min_repeats: 4, keep_first: KEEP}}, gopher_repetition]
  - name: letters
    reader: jsonl
    paths: ["{folder}/letters/*.jsonl"]
    root: "{folder}/letters"
sequences: {length: 64}
"""
MENU = "Home, news, weather and all the rest."
LICENCE = "All rights are reserved by the mill."
CITED = "Read all of this in the paper of the mill."  # in all documents once C4 has taken its citation
RARE = "This line stands in three documents."


def texts_of(folder: str) -> list[str]:
    """Documents of a source: all have the menu, twice, one in three the licence, three of them the rare line."""
    found = []
    for number in range(24):
        lines = [MENU, *prose(f"{folder}{number}", 4).split("\n\n"), MENU.replace(" ", "  ")]
        lines += [LICENCE] if number % 3 == 0 else []
        lines += [CITED.replace(".", f"[{number}].")]
        lines += [RARE] if number in (2, 11, 19) else []
        found.append("\n".join(lines))
    return [*found, "", MENU, f"{RARE}\n" + prose("long", 80)]  # the last is gated: else the rare line were in four


def write_notes(folder: Path, files: int, sources: Sequence[str] = ("notes", "letters")) -> None:
    for source in sources:
        (folder / source).mkdir(parents=True, exist_ok=True)
        for number in range(files):
            write_texts(folder / source / f"{number}.jsonl", texts_of(source)[number::files])
        (folder / source / "empty.jsonl").write_text("")


def left_texts(output: Path, source: str, groups: Sequence[str]) -> dict[tuple[str, int], str]:
    """What edits leave of each text of the newest version, by raw file and offset; of gated ones nothing is said."""
    storage, found = Storage(str(output)), {}
    tasks = [row for row in read_table(storage, newest(output).value["tasks"]).to_pylist() if row["source"] == source]
    outputs = {row["task"]: json.loads(row["outputs"]) for row in tasks if row["step"] in ("ingest", "annotate")}
    for part in sorted(task for task in outputs if "." not in task):
        paths = {out["name"]: out["path"] for task in outputs if task.startswith(part) for out in outputs[task]}
        rows = read_table(storage, paths["documents"], ["raw_file", "raw_offset", "gate"]).to_pylist()
        with open_groups(storage, paths["documents"]) as documents:
            edits = [paths[f"edits/{group}"] for group in groups]
            texts = [text for batch, _ in edited_texts(storage, documents, edits) for text in batch.to_pylist()]
        for row, text in zip(rows, texts, strict=True):
            if row["gate"] is None and text is not None:
                found[row["raw_file"], row["raw_offset"]] = text
    return found


@pytest.fixture
def many_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of some 20 KiB of text: eight ranges and more."""
    monkeypatch.setattr(exchange, "PARTITION_BYTES", 4 << 10)


def test_what_is_repeated_goes_however_parts_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    after = {}
    for name, part_bytes, files, partition_bytes in [("one", "1MiB", 1, 1 << 28), ("many", "1KiB", 5, 2 << 10)]:
        monkeypatch.setattr(exchange, "PARTITION_BYTES", partition_bytes)
        monkeypatch.setattr(exchange, "FAN_OUT", 2 if name == "many" else 128)
        folder = tmp_path / name
        write_notes(folder, files)
        recipe = write_recipe(folder, RECIPE.replace("KEEP", "false").replace("8KiB", part_bytes))
        run_inline(recipe, folder / "out")
        sums = Storage(str(folder / "out")).sizes("lines/sums")
        assert (len(sums) >= 4) == (name == "many")
        merged = [path for path in Storage(str(folder / "out")).sizes("dedup/merge") if "/notes-" in path]
        assert {path.split("-")[1] for path in merged} == ({"counts", "sums"} if name == "many" else set())
        c4 = left_texts(folder / "out", "notes", ["c4"])
        both = left_texts(folder / "out", "notes", ["c4", "repeated_lines"])
        values = list(c4.values())
        slow = cleaned(values, RepeatedLinesParams(min_repeats=4), [True] * len(values), list(range(len(values))))
        assert dict(zip(c4, slow, strict=True)) == both
        after[name] = sorted(both.values())
        assert sum(MENU in left for left in after[name]) == 0
        assert sum(RARE in left for left in after[name]) == 3
        assert sum(CITED in left for left in c4.values()) == 24
        assert sum(CITED in left for left in after[name]) == 0
    assert after["one"] == after["many"]
    assert "" in after["one"]  # of the menu alone nothing is left


def test_with_keep_first_one_document_keeps_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "PARTITION_BYTES", 4 << 10)
    write_notes(tmp_path, 5)
    found = []
    for part_bytes in ("1KiB", "1MiB"):
        output = tmp_path / part_bytes
        run_inline(write_recipe(tmp_path, RECIPE.replace("KEEP", "true").replace("8KiB", part_bytes)), output)
        left = left_texts(output, "notes", ["c4", "repeated_lines"])
        found.append(left)
        for line in (MENU, LICENCE):
            assert sum(text.count(line) for text in left.values()) == 1
    assert found[0] == found[1]


class Stopped(Exception):
    """As if the machine had gone."""


class StoppingExecutor(InlineExecutor):
    """Runs so many tasks."""

    def __init__(self, tasks: int) -> None:
        self.left = tasks

    def map(self, function: Any, shared: Any, items: Any) -> Iterator[tuple[int, Any]]:
        for found in super().map(function, shared, items):
            if self.left == 0:
                raise Stopped
            self.left -= 1
            yield found


@pytest.mark.usefixtures("many_ranges")
def test_a_run_stopped_anywhere_ends_with_the_same_bytes(tmp_path: Path) -> None:
    write_notes(tmp_path, 3)
    recipe = write_recipe(tmp_path, RECIPE.replace("KEEP", "false"))
    _, ran = run_inline(recipe, tmp_path / "whole")
    assert sum(name.startswith("sum_lines") for name in ran) >= 4
    recipe_file, done, storage = load_recipe(recipe.read_text(), str(recipe)), False, Storage(str(tmp_path / "out"))
    stops = 0
    while not done:
        run = Run(recipe_file, storage, StoppingExecutor(2), Quiet())
        try:
            run.go(prepare(recipe_file, storage))
            done = True
        except Stopped:
            stops += 1
    assert stops >= len(ran) // 4
    assert fingerprint(tmp_path / "out") == fingerprint(tmp_path / "whole")
    assert run_inline(recipe, tmp_path / "out")[1] == []


def test_only_what_changed_is_done_again(tmp_path: Path) -> None:
    write_notes(tmp_path, 3)
    text = RECIPE.replace("KEEP", "false")
    run_inline(write_recipe(tmp_path, text), tmp_path / "out")
    storage = Storage(str(tmp_path / "out"))
    counts, edits = storage.sizes("lines/counts"), storage.sizes("edits/repeated_lines")

    # another number of repeats that repeats the same lines: summed again, and no edit changes
    _, ran = run_inline(write_recipe(tmp_path, text.replace("min_repeats: 4", "min_repeats: 5")), tmp_path / "out")
    assert [name for name in ran if "lines" in name] == ["sum_lines of notes-00000"]
    assert storage.sizes("lines/counts") == counts
    assert storage.sizes("edits/repeated_lines") == edits

    # a file that says nothing new changes no edit of the others; one that repeats a line again does
    write_texts(tmp_path / "notes" / "new.jsonl", ["Something that nobody has said."])
    run_inline(write_recipe(tmp_path, text), tmp_path / "out")
    assert edits.items() <= storage.sizes("edits/repeated_lines").items()
    assert len(storage.sizes("edits/repeated_lines")) == len(edits) + 1
    write_texts(tmp_path / "notes" / "newer.jsonl", [f"{RARE}\nAnd more than that."])
    run_inline(write_recipe(tmp_path, text), tmp_path / "out")
    left = left_texts(tmp_path / "out", "notes", ["c4", "repeated_lines"])
    assert [text for text in left.values() if RARE in text] == []

    published = newest(tmp_path / "out")
    assert [finding for _, finding in verify(storage, published) if finding is not None] == []
    for path in garbage(storage, [published.path]):
        storage.delete(path)
    _, ran = run_inline(write_recipe(tmp_path, text), tmp_path / "out")
    assert [name for name in ran if name.startswith(("part", "sum_lines"))] == []


RUN_WIDE = """
name: wide
output: unused
tokenizer: {train: {vocab_size: 300, sample_bytes: 1MiB}}
sources:
  - name: one
    reader: jsonl
    paths: ["{folder}/one.jsonl"]
    filters: [{repeated_lines: {min_repeats: 2, scope: run, min_left: null}}]
  - name: two
    reader: jsonl
    paths: ["{folder}/two.jsonl"]
    filters: [{repeated_lines: {min_repeats: 2, scope: SCOPE, min_left: null}}]
  - name: three
    reader: jsonl
    paths: ["{folder}/three.jsonl"]
sequences: {length: 64}
"""


@pytest.mark.parametrize("scope", ["run", "source"])
def test_a_scope_is_a_source_or_the_run(tmp_path: Path, scope: str) -> None:
    shared = "A sentence that two sources have."
    for name in ("one", "two", "three"):
        write_texts(tmp_path / f"{name}.jsonl", [f"{shared}\nAnd what {name} alone says."])
    run_inline(write_recipe(tmp_path, RUN_WIDE.replace("SCOPE", scope)), tmp_path / "out")
    for name in ("one", "two"):
        (left,) = left_texts(tmp_path / "out", name, ["repeated_lines"]).values()
        assert left == ("" if scope == "run" else f"{shared}\n") + f"And what {name} alone says."
    assert Storage(str(tmp_path / "out")).sizes("edits/repeated_lines/three") == {}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{min_repeats: 2, scope: run, min_left: null}", "{repeats: 2}", "unknown key 'repeats' of filter"),
        ("{min_repeats: 2, scope: run, min_left: null}", "{unit: word}", "repeated_lines.unit is 'word', not one of"),
        ("min_repeats: 2, scope: SCOPE", "min_repeats: 3, scope: run", "`scope: run` differs in one and two"),
    ],
)
def test_mistakes_are_one_line(old: str, new: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(RUN_WIDE.replace(old, new).replace("SCOPE", "source"), "r.yaml")
