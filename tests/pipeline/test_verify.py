"""`verify` against damage at random places: whole, every flipped byte; quick, what its description promises."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.pipeline.corpus import fingerprint, prose, write_texts
from tests.pipeline.runs import newest, run_inline
from tokenmill.manifests.audit import shards_of
from tokenmill.manifests.receipts import Output
from tokenmill.pipeline import checks
from tokenmill.pipeline.book import Book
from tokenmill.pipeline.steps.publish import Published
from tokenmill.pipeline.storage import Storage

RECIPE = """
name: verified
output: unused
seed: 3
tokenizer: {train: {vocab_size: 512, sample_bytes: 1MiB}}
sources:
  - {name: notes, reader: jsonl, paths: ["FOLDER/notes.jsonl"], root: "FOLDER"}
sequences: {length: 64}
mixture: {weights: {notes: 1}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Published]:
    folder = tmp_path_factory.mktemp("verified")
    write_texts(folder / "notes.jsonl", [prose(f"verified {number}", 1 + number % 9) for number in range(120)])
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("FOLDER", str(folder)))
    return folder / "out", run_inline(recipe, folder / "out")[0]


@pytest.fixture
def mended(finished: tuple[Path, Published]) -> Iterator[tuple[Path, Published, Output]]:
    """The run, its shard, and after the test its files as they were."""
    output, published = finished
    before = {path: (output / path).read_bytes() for path in fingerprint(output)}
    receipt = next(r for r in checks.receipts_in(Storage(str(output)), published) if r.step == "pack")
    yield output, published, shards_of(receipt)[0]
    for path in set(fingerprint(output)) - set(before):
        (output / path).unlink()
    for path, data in before.items():
        (output / path).parent.mkdir(parents=True, exist_ok=True)
        (output / path).write_bytes(data)


def found_in(output: Path, published: Published, quick: bool = False) -> dict[str, str]:
    checked = checks.verify(Storage(str(output)), published, quick)
    return {path: finding.problem for path, finding in checked if finding is not None}


@pytest.mark.parametrize("quick", [False, True])
def test_an_undamaged_run_is_whole(finished: tuple[Path, Published], quick: bool):
    assert found_in(*finished, quick) == {}


def test_a_hundred_of_a_hundred_flipped_bits_of_a_shard_are_found(mended: tuple[Path, Published, Output]):
    output, published, shard = mended
    whole = (output / shard.path).read_bytes()
    assert len(whole) == shard.bytes > 5_000
    rng = random.Random(7)
    places = [0, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(98))]
    found = 0
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << rng.randrange(8)
        (output / shard.path).write_bytes(data)
        found += list(found_in(output, published)) == [shard.path]
    assert found == 100


def test_a_flipped_bit_of_any_other_file_is_found(mended: tuple[Path, Published, Output]):
    output, published, _ = mended
    rng = random.Random(8)
    named = [path for path, _ in checks.verify(Storage(str(output)), published)]
    folders = {path.split("/")[0] for path in named}
    assert folders >= {"documents", "signals", "decisions", "ledger", "sequences", "tokenizer", "manifests"}
    for path in named:
        if path == published.path:
            continue  # checked when it is opened: see below
        whole = (output / path).read_bytes()
        data = bytearray(whole)
        data[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        (output / path).write_bytes(data)
        assert list(found_in(output, published)) == [path]
        (output / path).write_bytes(whole)


@pytest.mark.parametrize("quick", [False, True])
def test_a_damaged_manifest_is_named(mended: tuple[Path, Published, Output], quick: bool):
    output, published, _ = mended
    whole = (output / published.path).read_bytes()
    (output / published.path).write_bytes(whole.replace(b'"seed: 3', b'"seed: 4').replace(b"verified", b"Verified"))
    with pytest.raises(ValueError, match=re.escape(published.path)):
        newest(output)
    tasks = output / published.value["tasks"]
    whole = tasks.read_bytes()
    rng = random.Random(10)
    for _ in range(50):  # whatever is hit, nothing is made of it
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        tasks.write_bytes(data)
        found = found_in(output, published, quick)
        assert list(found) == [published.value["tasks"]]
        assert "nothing else can be checked" in found[published.value["tasks"]]
    tasks.unlink()
    assert list(found_in(output, published, quick)) == [published.value["tasks"]]


def test_quick_finds_what_is_missing_cut_or_foreign(mended: tuple[Path, Published, Output]):
    output, published, shard = mended
    storage = Storage(str(output))
    named = sorted(path for path, _ in checks.verify(storage, published) if "manifests/" not in path)
    for path in named:
        whole = (output / path).read_bytes()
        (output / path).write_bytes(whole[:-1])
        assert list(found_in(output, published, quick=True)) == [path]
        (output / path).unlink()
        assert found_in(output, published, quick=True) == {path: "missing"}
        (output / path).write_bytes(whole)
    (output / "recipe.yaml").write_text("beside the run's folders: of people")
    assert found_in(output, published, quick=True) == {}
    for stray in ("sequences/stray.arrow", "sequences/notes/stray.arrow", "manifests/x/stray", f"{shard.path}.part"):
        (output / stray).parent.mkdir(parents=True, exist_ok=True)
        (output / stray).write_bytes(b"?")
        problems = found_in(output, published, quick=True)
        assert list(problems) == [stray]
        assert problems[stray].startswith("foreign")
        (output / stray).unlink()


def test_quick_finds_every_damaged_byte_of_a_shards_footer(mended: tuple[Path, Published, Output]):
    output, published, shard = mended
    whole = (output / shard.path).read_bytes()
    footer = shard.detail["batch_offsets"][-1] + shard.detail["batch_lengths"][-1]
    assert footer < len(whole) - 100
    rng = random.Random(9)
    for place in [footer, len(whole) - 1, *(rng.randrange(footer, len(whole)) for _ in range(30))]:
        data = bytearray(whole)
        data[place] ^= 1 << rng.randrange(8)
        (output / shard.path).write_bytes(data)
        problems = found_in(output, published, quick=True)
        assert list(problems) == [shard.path]
        assert "its footer hashes to" in problems[shard.path]


def test_quick_finds_a_parquet_file_without_a_readable_footer(mended: tuple[Path, Published, Output]):
    output, published, _ = mended
    for folder in ("documents", "decisions", "manifests/plan.", "manifests/shards."):
        path = min(path for path in fingerprint(output) if path.startswith(folder))
        whole = (output / path).read_bytes()
        footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
        for damaged in (
            whole[:-8] + b"\xff\xff\xff\x7fPAR1",
            whole[:-4] + b"????",
            whole[:footer] + b"\xff" * 32 + whole[footer + 32 :],
        ):
            (output / path).write_bytes(damaged)
            problems = found_in(output, published, quick=True)
            assert list(problems) == [path]
            # without the shard table receipts are not whole, so it is hashed first
            told = "nothing else can be checked" if "shards" in path else "its footer is damaged"
            assert told in problems[path]
        (output / path).write_bytes(whole)


def test_quick_finds_a_changed_byte_of_the_mixture(mended: tuple[Path, Published, Output]):
    output, published, _ = mended
    path = published.value["mixture"]
    (output / path).write_text((output / path).read_text().replace('"seed": 3', '"seed": 4'))
    assert list(found_in(output, published, quick=True)) == [path]


def test_the_manifest_names_record_batches_once_and_receipts_are_read_whole(small_run: Path):
    """The tasks table leaves them to the shard table; what is read is what *pack* wrote."""
    published = newest(small_run)
    tasks = pq.read_table(small_run / published.value["tasks"]).to_pylist()
    assert not [row for row in tasks if "batch_" in row["outputs"]]
    book = Book(Storage(str(small_run)))
    book.load()
    read = {receipt.path: receipt for receipt in checks.receipts_in(Storage(str(small_run)), published)}
    written = {path: receipt for path, receipt in book.known.items() if path in read}
    assert read == written
    assert any("batch_hashes" in output.detail for receipt in read.values() for output in receipt.outputs)
