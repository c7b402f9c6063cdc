"""The whole of a small run: what comes out, that it balances, and that a rerun does only what changed."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.corpus import RECIPE, fingerprint, write_corpus, write_recipe
from tests.pipeline.runs import opened_with_units, run_inline, tokenmill
from tokenmill.manifests.shards import SequenceFormat
from tokenmill.pipeline import checks
from tokenmill.pipeline.book import Book
from tokenmill.pipeline.executors import RunFailedError
from tokenmill.pipeline.loader import open_mixture
from tokenmill.pipeline.prepare import prepare
from tokenmill.pipeline.recipe.file import load_recipe
from tokenmill.pipeline.steps.publish import Published, latest
from tokenmill.pipeline.storage import Storage


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Published]:
    """A finished run that tests only read."""
    output = tmp_path_factory.mktemp("finished")
    return output, run_inline(write_recipe(corpus), output)[0]


@pytest.fixture
def own_run(corpus: Path, tmp_path: Path) -> tuple[Path, Path]:
    """(recipe, output) of a finished run that the test may change."""
    recipe = write_recipe(write_corpus(tmp_path / "corpus"))
    run_inline(recipe, tmp_path / "out")
    return recipe, tmp_path / "out"


def steps(published: Published, source: str) -> dict:
    return published.value["balance"][source]["steps"]


def test_the_books_say_what_the_corpus_holds(finished: tuple[Path, Published]):
    published = finished[1]
    web, notes, code = (steps(published, source) for source in ("web", "notes", "code"))
    # 2 shards of 30 pages, 3 exact and 3 near copies, a short page, a 404 and an image each
    assert web["ingest"]["taken"][0] == 2 * (30 + 3 + 3 + 3)
    assert web["ingest"]["dropped"]["gates.http_status"][0] == 2
    assert web["ingest"]["dropped"]["gates.mime"][0] == 2
    assert web["select"]["dropped"]["gopher_quality.min_words"][0] == 2
    assert web["deduplicate"]["dropped"]["dedup.exact"][0] == 6
    assert web["deduplicate"]["dropped"]["dedup.near"][0] == 6
    assert web["deduplicate"]["out"][0] == 60
    assert published.value["balance"]["web"]["other_records"] == {"request": 2}
    assert {reason: tally[0] for reason, tally in notes["ingest"]["failed"].items()} == {
        "not_json": 1,
        "missing_text": 1,
    }
    assert notes["deduplicate"]["dropped"]["dedup.exact"][0] == 1
    assert code["deduplicate"]["out"][0] == 24


def test_every_token_of_a_row_is_a_documents(finished: tuple[Path, Published]):
    output, published = finished
    receipts = checks.receipts_in(Storage(str(output)), published)
    shards = [out for receipt in receipts if receipt.step == "pack" for out in receipt.outputs]
    assert shards
    for shard in shards:
        table = pa.ipc.open_file(output / shard.path).read_all()
        form = SequenceFormat.of(table.schema)
        tokens = table.column("tokens").combine_chunks().flatten().to_numpy().reshape(-1, 64)
        for row in range(table.num_rows):
            lengths = table.column("document_lengths")[row].as_py()
            starts = table.column("document_starts")[row].as_py()
            assert sum(lengths) == table.column("valid")[row].as_py() <= 64
            ends = np.cumsum(lengths)
            for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
                piece = tokens[row, end - lengths[index] : end]
                assert form.special_ids["mask"] not in piece
                # EOS ends documents and stands nowhere else; a piece that goes on in another row has none
                assert (piece[:-1] != form.special_ids["eos"]).all()
                if lengths[index] < 64 and start == 0:
                    assert piece[-1] == form.special_ids["eos"]


def test_audit_recounts_every_number(finished: tuple[Path, Published]):
    storage = Storage(str(finished[0]))
    found = dict(checks.recount(storage, finished[1]))
    assert {task: wrong for task, wrong in found.items() if wrong} == {}
    assert len(found) > 10


def test_verify_reads_every_file(finished: tuple[Path, Published]):
    storage = Storage(str(finished[0]))
    found = dict(checks.verify(storage, finished[1]))
    assert {path: wrong for path, wrong in found.items() if wrong} == {}
    data = {path for path in storage.sizes() if path.split("/")[0] in checks.DATA_FOLDERS}
    assert set(found) == data


def test_the_loader_opens_what_was_published(finished: tuple[Path, Published]):
    loader = open_mixture(str(finished[0]), batch_size=4)
    batch = next(iter(loader))
    assert batch.clean.shape == (4, 64)
    mask = loader.plan.mixture.special_ids["mask"]
    assert np.array_equal(batch.noisy, np.where(batch.masked, mask, batch.clean))
    assert {name.split("/")[1] for name in batch.component_names} == {"train"}


def test_validation_is_a_stratum_of_its_own(finished: tuple[Path, Published]):
    tokens = {source: set(sheet["tokens"]) for source, sheet in finished[1].value["balance"].items()}
    assert "train/en" in tokens["web"]
    assert any(stratum.startswith("validation") for strata in tokens.values() for stratum in strata)


def test_a_removal_names_a_kept_document_with_its_similarity(finished: tuple[Path, Published]):
    output, published = finished
    receipts = checks.receipts_in(Storage(str(output)), published)
    ledgers = [o for r in receipts if r.step == "deduplicate" for o in r.outputs if o.name.startswith("ledger/")]
    rows = [row for ledger in ledgers for row in pq.read_table(output / ledger.path).to_pylist()]
    removed = {(row["removed_part"], row["removed_row"]) for row in rows}
    assert len(rows) == len(removed) == 13
    for row in rows:
        assert (row["keeper_part"], row["keeper_row"]) not in removed
        assert row["similarity"] >= 0.8
        assert (row["kind"] == "exact") == (row["similarity"] == 1.0)


def test_the_balance_sheet_says_who_encoded(finished: tuple[Path, Published]):
    output, published = finished
    assert {sheet["encoded_by"] for sheet in published.value["balance"].values()} == {"our kernels"}
    assert "encoded by our kernels" in " ".join(tokenmill("audit", str(output)).split())


def test_a_tokenizer_given_by_path_is_put_into_the_run(finished: tuple[Path, Published], corpus: Path, tmp_path: Path):
    output, published = finished
    given = output / published.value["tokenizer"]
    recipe = tmp_path / "recipe.yaml"
    text = RECIPE.replace("train: {vocab_size: 512, sample_bytes: 1MiB}", f"path: {given}")
    recipe.write_text(text.replace("{folder}", str(corpus)))
    again, _ = run_inline(recipe, tmp_path / "out")
    assert (tmp_path / "out" / again.value["tokenizer"]).read_bytes() == given.read_bytes()
    assert again.value["balance"]["web"]["tokens"] == published.value["balance"]["web"]["tokens"]


def test_the_largest_parts_and_units_are_begun_first(corpus: Path, tmp_path: Path):
    recipe = write_recipe(corpus)
    _, tasks = run_inline(recipe, tmp_path)
    parts = prepare(load_recipe(recipe.read_text(), str(recipe)), Storage(str(tmp_path)))
    units = opened_with_units(tmp_path)[1].units
    for sizes in (
        {f"part {part.key} of {part.source}": part.bytes for part in parts},
        {f"unit {name}": unit.bytes for name, unit in units.items()},
    ):
        begun = [task for task in tasks if task in sizes][: len(sizes)]  # parts are gone through twice
        assert begun == sorted(sizes, key=lambda name: -sizes[name]) != list(sizes)


def test_a_rerun_does_nothing_and_publishes_nothing(own_run: tuple[Path, Path]):
    recipe, output = own_run
    before = fingerprint(output)
    published, ran = run_inline(recipe, output)
    assert ran == []
    assert published.number == 0
    assert fingerprint(output) == before


def test_a_changed_bound_reruns_from_select(own_run: tuple[Path, Path]):
    recipe, output = own_run
    before = fingerprint(output)
    recipe.write_text(recipe.read_text().replace("min_words: 40", "min_words: 200"))
    published, ran = run_inline(recipe, output)
    assert published.number == 1
    assert steps(published, "web")["select"]["dropped"]["gopher_quality.min_words"][0] > 2
    after = fingerprint(output)
    fresh = {path.split("/")[0] for path in set(after) - set(before)}
    assert fresh <= {"decisions", "dedup", "ledger", "clusters", "tokenizer", "sequences", "manifests", "receipts"}
    kept = {path for path in before if not path.startswith("receipts/")}
    assert {path: after.get(path) for path in kept} == {path: before[path] for path in kept}  # nothing overwritten
    assert not any("notes" in name and name.startswith("part") for name in ran)


def test_a_changed_priority_ingests_nothing(own_run: tuple[Path, Path]):
    recipe, output = own_run
    recipe.write_text(recipe.read_text().replace("priority: 1", "priority: 2"))
    _, ran = run_inline(recipe, output)
    assert {task.split(" ")[0] for task in ran} >= {"dedup_order"}
    assert all(task.startswith("dedup") for task in ran)


@pytest.mark.parametrize("folder", ["documents", "signals/minhash", "decisions", "ledger", "sequences"])
def test_a_lost_output_is_made_again_with_the_same_bytes(own_run: tuple[Path, Path], folder: str):
    recipe, output = own_run
    before = fingerprint(output)
    lost = min(path for path in before if path.startswith(folder))
    (output / lost).unlink()
    assert any(finding for _, finding in checks.verify(Storage(str(output)), latest(Storage(str(output)))))
    _, ran = run_inline(recipe, output)
    assert len(ran) == 1
    assert fingerprint(output) == before


def test_verify_finds_a_changed_byte_a_truncated_and_a_foreign_file(own_run: tuple[Path, Path]):
    _, output = own_run
    storage = Storage(str(output))
    published = latest(storage)
    shard = min(path for path in fingerprint(output) if path.startswith("sequences"))
    data = bytearray((output / shard).read_bytes())
    data[len(data) // 2] ^= 1
    (output / shard).write_bytes(data)
    documents = min(path for path in fingerprint(output) if path.startswith("documents"))
    (output / documents).write_bytes((output / documents).read_bytes()[:-1])
    (output / "sequences" / "stray.arrow").write_bytes(b"?")
    found = {path: finding.problem for path, finding in checks.verify(storage, published) if finding}
    assert set(found) == {shard, documents, "sequences/stray.arrow"}
    assert "bad record batches: [0]" in found[shard]
    assert "its receipt says" in found[documents]
    assert "foreign" in found["sequences/stray.arrow"]
    quick = {path for path, finding in checks.verify(storage, published, quick=True) if finding}
    assert quick == {documents, "sequences/stray.arrow"}


def test_recount_names_the_part_whose_file_was_changed(own_run: tuple[Path, Path]):
    _, output = own_run
    storage = Storage(str(output))
    path = min(path for path in fingerprint(output) if path.startswith("decisions/web"))
    table = pq.read_table(output / path)
    kept = pa.array([False] * table.num_rows)
    pq.write_table(table.set_column(0, table.schema.field("kept"), kept), output / path)
    wrong = [task for task, differences in checks.recount(storage, latest(storage)) if differences]
    assert any(task.startswith("deduplicate") for task in wrong)


def test_gc_removes_what_no_version_names(own_run: tuple[Path, Path]):
    recipe, output = own_run
    storage = Storage(str(output))
    before = fingerprint(output)
    recipe.write_text(recipe.read_text().replace("length: 64", "length: 32"))
    run_inline(recipe, output)
    unnamed = checks.garbage(storage, [path for path in before if "/run-" in path] + [latest(storage).path])
    assert {path.split("/")[0] for path in unnamed} == {"dedup"}  # what the rounds left to one another
    gone = checks.garbage(storage, [latest(storage).path])
    assert {path.split("/")[0] for path in gone} == {"sequences", "manifests", "dedup"}
    tokenmill("gc", str(output), "--keep", "1", "--yes")
    assert not any(finding for _, finding in checks.verify(storage, latest(storage)))


def test_a_failed_part_is_named_and_the_others_are_done(tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus", 6)
    recipe = write_recipe(corpus, RECIPE.replace("reader: jsonl", "reader: parquet").replace("*.jsonl", "*.parquet"))
    pq.write_table(pa.table({"texts": ["a"]}), corpus / "notes" / "notes.parquet")
    with pytest.raises(RunFailedError, match=r"of notes: ValueError: .*notes\.parquet.*texts"):
        run_inline(recipe, tmp_path / "out")
    book = Book(Storage(str(tmp_path / "out")))
    book.load()
    assert sorted({receipt.source for receipt in book.known.values()}) == ["code", "web"]


def test_an_edited_manifest_is_refused(own_run: tuple[Path, Path]):
    _, output = own_run
    path = output / latest(Storage(str(output))).path
    value = json.loads(path.read_text())
    value["balance"]["web"]["rows"] += 1
    path.write_text(json.dumps(value))
    with pytest.raises(ValueError, match="was edited"):
        latest(Storage(str(output)))


def test_the_commands_print_what_people_need(own_run: tuple[Path, Path]):
    recipe, output = own_run
    assert "published    manifests/run-00000" in tokenmill("status", str(output))
    assert "recounted: every number is what the files hold" in tokenmill("audit", str(output), "--recount")
    assert "0 not as" in tokenmill("verify", str(output))
    sheet = json.loads(tokenmill("audit", str(output), "--json"))
    assert sheet["balance"]["code"]["steps"]["deduplicate"]["out"][0] == 24
    assert json.loads(tokenmill("verify", str(output), "--json"))["findings"] == []
    assert json.loads(tokenmill("status", str(output), "--json"))["steps"]["select"] == 4
    assert "holds no published run" in tokenmill("audit", str(output / "nothing"), check=False)
    assert "no recipe 'absent.yaml'" in tokenmill("run", "absent.yaml", check=False)
    recipe.write_text(recipe.read_text().replace("reader: code", "raeder: code"))
    message = tokenmill("run", str(recipe), "--output", str(output), check=False)
    assert "did you mean 'reader'?" in message
    assert "Traceback" not in message
