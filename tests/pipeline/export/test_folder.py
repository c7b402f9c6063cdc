"""An export is done or not: rerun, interrupted, damaged, beside others; the same bytes on Ray."""

import copy
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import click
import pyarrow.compute as pc
import pytest

from tests.pipeline.export.small_export import exported, held
from tests.pipeline.runs import newest
from tokenmill.pipeline import scan
from tokenmill.pipeline.cli import cli
from tokenmill.pipeline.export import hugging_face
from tokenmill.pipeline.export.selection import check_tokens, select_shards
from tokenmill.pipeline.export.writing import export
from tokenmill.pipeline.storage import Storage

KINDS = ("smdm", "datasets", "mds", "megatron")


def command(*arguments: str) -> None:
    cli.main(["export", *arguments], standalone_mode=False)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_rerun_writes_nothing(small_run: Path, tmp_path: Path):
    first = exported(small_run, "mds", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert exported(small_run, "mds", tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_what_was_interrupted_is_made_anew(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    exported(small_run, "datasets", tmp_path / "whole", file_bytes=3000)
    written = []

    def stopped(*args: object) -> None:
        written.append(args)
        if len(written) == 3:
            raise KeyboardInterrupt
        real(*args)

    real = hugging_face.write
    monkeypatch.setattr(hugging_face, "write", stopped)
    for size in (3000, 6000):  # the second with other files, of which none may stay
        written.clear()
        with pytest.raises(KeyboardInterrupt):
            exported(small_run, "datasets", tmp_path / "cut", file_bytes=size)
        assert len(list((tmp_path / "cut").glob("data-*"))) == 2
        assert not (tmp_path / "cut" / "export.json").exists()
    (tmp_path / "cut" / "tmp" / "draft").write_bytes(b"of a task that was killed")
    monkeypatch.undo()
    exported(small_run, "datasets", tmp_path / "cut", file_bytes=3000)
    assert bytes_of(tmp_path / "cut") == bytes_of(tmp_path / "whole")


def test_a_file_that_went_is_made_anew(small_run: Path, tmp_path: Path):
    exported(small_run, "smdm", tmp_path)
    before = bytes_of(tmp_path)
    (tmp_path / "train_0000000000.bin").write_bytes(b"short")
    exported(small_run, "smdm", tmp_path)
    assert bytes_of(tmp_path) == before


def test_another_export_is_not_overwritten(small_run: Path, tmp_path: Path):
    exported(small_run, "smdm", tmp_path)
    before = bytes_of(tmp_path)
    with pytest.raises(ValueError, match=r"another export \(kind is 'smdm', not 'mds'\): give another folder"):
        exported(small_run, "mds", tmp_path)
    assert bytes_of(tmp_path) == before


def test_files_of_others_are_left_alone(small_run: Path, tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"files that are no export's, such as 'thesis.txt'"):
        exported(small_run, "mds", tmp_path)
    assert bytes_of(tmp_path) == {"thesis.txt": b"mine"}


def test_a_damaged_shard_is_named(small_run: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    shard = next(path for path in sorted(run.glob("sequences/stories/train/*.arrow")))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    for kind in KINDS:
        with pytest.raises(ValueError, match=rf"record batch 0 of shard .*{shard.name} is corrupt"):
            exported(run, kind, tmp_path / kind)
        assert not (tmp_path / kind / "export.json").exists()
        assert exported(run, kind, tmp_path / f"{kind}-other", sources=("notes",))["rows"] > 0
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=shard.name):
        exported(run, "mds", tmp_path / "gone")


def test_a_damaged_schema_is_named(small_run: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    shard = next(path for path in sorted(run.glob("sequences/notes/train/*.arrow")))
    data = shard.read_bytes()
    for place, other in (
        (b'"length":64', b'"length":65'),
        (b'"vocab_size":400', b'"vocab_size":40,'),
        (b"tokenmill", b"t"),
    ):
        assert place in data
        shard.write_bytes(data.replace(place, other.ljust(len(place), b"!")))
        with pytest.raises(ValueError, match=shard.name):
            select_shards(Storage(str(run)), (), "train")


@pytest.mark.parametrize("column", ["tokens", "documents"])
def test_what_was_written_is_held_against_the_shard_table(small_run: Path, tmp_path: Path, column: str):
    selection = select_shards(Storage(str(small_run)), (), "train")
    place = selection.shards.column_names.index(column)
    shards = selection.shards.set_column(place, column, pc.add(selection.shards.column(column), 1))
    wrong = replace(selection, shards=shards)
    with pytest.raises(ValueError, match=f"but the shard table says .*'{column}': {wrong.count(column)}"):
        export(wrong, "smdm", Storage(str(tmp_path)), scan.opening("inline", None, None, True))
    assert not (tmp_path / "export.json").exists()


def test_the_shard_table_is_held_against_the_balance_sheet(small_run: Path):
    balance = copy.deepcopy(newest(small_run).value["balance"])
    selection = select_shards(Storage(str(small_run)), (), "train")
    check_tokens(selection, balance)
    balance["notes"]["tokens"]["train"] += 1
    with pytest.raises(ValueError, match=r"the balance sheet of .* says"):
        check_tokens(selection, balance)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--source", "note"], "no source 'note' in .*; it has notes, stories"),
        (["--split", "validation", "--rows", "5"], "--rows takes rows in the mixture's order"),
        (["--source", "notes", "--rows", "5"], "--rows takes rows in the mixture's order"),
        (["--rows", "10000000"], "or raise max_epochs"),
        (["--file-bytes", "big"], "'big' is no size"),
        (["--file-bytes", "0"], "'0' is no room for a row"),
        (["--format", "megatron", "--rows", "5"], "megatron takes whole documents"),
    ],
)
def test_what_cannot_be_is_told_of(small_run: Path, tmp_path: Path, arguments: list[str], told: str):
    out = tmp_path / "out"
    with pytest.raises((ValueError, click.BadParameter), match=told):
        command(str(small_run), "--format", "mds", "--output", str(out), *arguments)
    assert not out.exists()


def test_no_published_version(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no published run"):
        command(str(tmp_path), "--format", "mds", "--output", str(tmp_path / "out"))


def test_nothing_packed_for_a_split(small_run: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="nothing of notes, stories is packed for test"):
        select_shards(Storage(str(small_run)), (), "test")


def test_ray_writes_the_same_bytes(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scan, "PATIENCE_S", 0.0)
    selection = select_shards(Storage(str(small_run)), (), "train")
    with scan.opening("ray", None, 2, True)() as opened:
        for kind, rows in (("smdm", None), ("megatron", None), ("mds", 50)):
            size = None if kind == "megatron" else 3000
            export(selection, kind, Storage(str(tmp_path / "ray" / kind)), lambda: nullcontext(opened), rows, size)
            exported(small_run, kind, tmp_path / "here" / kind, num_rows=rows, file_bytes=size)
    assert bytes_of(tmp_path / "ray") == bytes_of(tmp_path / "here")


def test_the_command_says_what_it_wrote(small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    command(str(small_run), "--format", "datasets", "--output", str(tmp_path / "out"))
    said = capsys.readouterr().out
    found = held(small_run)
    assert said.startswith(f"{len(found.tokens):,} rows, ")
    assert f"{found.real.sum():,} tokens in 3 files" in said
    assert newest(small_run).path in said
