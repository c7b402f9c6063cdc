"""Conversations in rows of several lengths: each in the shortest that holds it, and all that looks at rows knows."""

import html
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.pipeline.chat.raw_chats import write_raw
from tests.pipeline.chat.test_pack import RECIPE, TEMPLATE, records
from tests.pipeline.export.small_export import exported
from tests.pipeline.report.pages import page_of
from tests.pipeline.runs import newest, run_inline
from tests.pipeline.test_takedown import removed
from tokenmill.manifests.balance import Balance
from tokenmill.manifests.lengths import length_of
from tokenmill.manifests.shards import SequenceFormat
from tokenmill.pipeline import checks
from tokenmill.pipeline.cli import cli
from tokenmill.pipeline.loader import open_mixture
from tokenmill.pipeline.loader.published import read_mixture
from tokenmill.pipeline.mixing.runs import open_to_mix
from tokenmill.pipeline.packed import read_batches, shards_of
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.report.blocks import percent
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.takedown import Asked

BUCKETS = (64, 96, 128)
LENGTHS = (*BUCKETS, 256)
PLAIN = (
    RECIPE.replace("name: sft", "name: sft\npart_bytes: 4KiB\nstrata: {validation_fraction: 0.2}")
    .replace("layout: LAYOUT", "layout: dialogue, unit_bytes: 4KiB")
    .replace("max_epochs: 12", "max_epochs: 3")
)
BUCKETED = PLAIN.replace("layout: dialogue", "layout: dialogue, buckets: [64, 96, 128]").replace(
    "max_epochs: 3", "max_epochs: 3, batch_size: 4"
)
Row = tuple[str, int, list[int], list[int]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same conversations in rows of one length, `plain`, and of several, `bucketed`."""
    folder = tmp_path_factory.mktemp("buckets")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_raw(records(), TEMPLATE, files=3)
        for name, text in (("plain", PLAIN), ("bucketed", BUCKETED)):
            Path(f"{name}.yaml").write_text(text)
            run_inline(Path(f"{name}.yaml"), name)
    return folder


@pytest.fixture
def copied(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of all that may be changed; the working directory."""
    shutil.copytree(built, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def rows_of(run: Path, wanted: str = "") -> dict[tuple[str, int], Row]:
    """By conversation: the stratum that it is packed in, its row's length, its tokens and marks of answers."""
    storage = Storage(str(run))
    found = {}
    for receipt in checks.receipts_in(storage, newest(run), "pack"):
        for shard in shards_of(receipt):
            for batch in read_batches(storage, shard):
                form = SequenceFormat.of(batch.schema)
                assert shard.name == f"sequences/{form.stratum}"
                for row in batch.to_pylist():
                    (part,), (number,) = row["document_parts"], row["document_rows"]
                    told = [i % 2 for i, run in enumerate(row["maskable"]) for _ in range(run)]
                    name = (form.parts[part], number)
                    assert name not in found
                    assert len(row["tokens"]) == form.length
                    assert set(row["tokens"][row["valid"] :]) <= {form.special_ids["eos"]}
                    found[name] = (form.stratum, form.length, row["tokens"][: row["valid"]], told)
    return {name: row for name, row in found.items() if row[0].startswith(wanted)}


def asked(*arguments: str) -> str:
    """What a command prints."""
    done = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_each_in_the_shortest_row_that_holds_it(built: Path):
    plain, bucketed = rows_of(built / "plain"), rows_of(built / "bucketed")
    assert bucketed.keys() == plain.keys()
    assert {length for _, length, _, _ in bucketed.values()} == set(LENGTHS)
    for name, (stratum, length, tokens, told) in bucketed.items():
        assert length == min(known for known in LENGTHS if known >= len(tokens))
        assert (stratum, tokens, told) == (f"{plain[name][0]}/length={length}", *plain[name][2:])


def test_a_conversation_that_just_fits_and_one_that_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Buckets at the very lengths of two conversations; longer than the longest is left out and counted."""
    monkeypatch.chdir(tmp_path)
    write_raw(records()[:30], TEMPLATE)
    Path("r.yaml").write_text(PLAIN)
    run_inline(Path("r.yaml"), "out")
    sizes = sorted({len(tokens) for _, _, tokens, _ in rows_of(Path("out")).values()})
    short, middle, long = sizes[2], sizes[4], sizes[-2]
    text = BUCKETED.replace("[64, 96, 128]", f"[{short}, {middle}]").replace("length: 256", f"length: {long}")
    Path("r.yaml").write_text(text.replace("batch_size: 4", "batch_size: 1"))
    run_inline(Path("r.yaml"), "out")
    found = {(len(tokens), length) for _, length, tokens, _ in rows_of(Path("out")).values()}
    assert found == {(size, min(known for known in (short, middle, long) if known >= size)) for size in sizes[:-1]}
    book = Balance.from_json(newest("out").value["balance"]["chat"]["steps"]["pack"])
    assert book.dropped["pack.longer_than_row"].documents == 1


def test_books_are_the_same_but_for_padding(built: Path):
    one, two = (newest(built / name).value["balance"]["chat"] for name in ("plain", "bucketed"))
    assert two["steps"] == one["steps"]
    assert (two["roles"], two["rows"]) == (one["roles"], one["rows"])
    room = {name: sum(length for _, length, _, _ in rows_of(built / name).values()) for name in ("plain", "bucketed")}
    tokens = Balance.from_json(one["steps"]["pack"]).out.tokens
    assert one["padding_tokens"] == room["plain"] - tokens
    assert two["padding_tokens"] == room["bucketed"] - tokens
    assert two["padding_tokens"] * 4 < one["padding_tokens"]
    assert ", 0 not as " in asked("verify", str(built / "bucketed"))


def test_the_loader_gives_every_conversation_its_visits(built: Path):
    packed = rows_of(built / "bucketed", "train")
    mixture = read_mixture(Storage(str(built / "bucketed")), newest(built / "bucketed").value["mixture"])
    assert mixture.lengths == LENGTHS
    seen: dict[tuple[int, ...], int] = {}
    for batch in open_mixture(str(built / "bucketed"), batch_size=4, objective="dream"):
        length = batch.clean.shape[1]
        for ids, component in zip(batch.clean.tolist(), batch.component, strict=True):
            assert length_of(batch.component_names[component]) == length
            seen[tuple(ids)] = seen.get(tuple(ids), 0) + 1
    eos = mixture.special_ids["eos"]
    padded = {tuple(tokens + [eos] * (length - len(tokens))): length for _, length, tokens, _ in packed.values()}
    assert len(padded) == len(packed)
    assert seen.keys() <= padded.keys()
    assert max(seen.values()) == 3
    for length in LENGTHS:
        visits = sum(seen.get(ids, 0) for ids, own in padded.items() if own == length)
        assert visits == 3 * sum(own == length for own in padded.values()) // 4 * 4


def test_what_training_takes_is_told(built: Path):
    told = json.loads(asked("audit", str(built / "bucketed"), "--json"))
    packed = [length for _, length, _, _ in rows_of(built / "bucketed", "train").values()]
    visits = {each["component"]: (each["rows"], each["planned"]) for each in told["visits"]}
    assert visits == {
        f"chat/train/length={length}": (packed.count(length), 3 * packed.count(length) // 4 * 4) for length in LENGTHS
    }
    printed = " ".join(asked("audit", str(built / "bucketed")).split())
    assert "in batches of 4 rows of one length, 64, 96, 128 and 256 tokens" in printed


def test_rows_that_fill_no_batch_are_told(copied: Path):
    text = BUCKETED.replace("batch_size: 4", "batch_size: 32")
    Path("bucketed.yaml").write_text(text)
    printed = asked("run", "bucketed.yaml", "--output", "bucketed", "--executor", "inline", "--quiet")
    lengths = [length for _, length, _, _ in rows_of(Path("bucketed"), "train").values()]
    few = [length for length in LENGTHS if 3 * lengths.count(length) < 32]
    assert 0 < len(few) < len(LENGTHS)
    for length in LENGTHS:
        line = f"training takes none of {lengths.count(length):,} rows of {length:,} tokens: at max_epochs they fill no"
        assert (line in printed) == (length in few)
        assert (line in " ".join(asked("audit", "bucketed").split())) == (length in few)


def test_a_conversation_is_found_in_its_row_and_the_row_in_the_order(built: Path):
    run = str(built / "bucketed")
    found = {}
    for (part, row), (stratum, length, _, _) in rows_of(built / "bucketed").items():
        found.setdefault(stratum, (f"{part}:{row}", length))
    for stratum, (name, length) in found.items():
        assert f"kept: stratum {stratum}, unit" in asked("why", run, name)
        (told,) = json.loads(asked("where", run, name, "--json"))["documents"]
        (piece,) = told["pieces"]
        if stratum.startswith("validation"):
            assert piece["global_row"] is None
            continue
        traced = json.loads(asked("trace", run, "--row", str(piece["global_row"]), "--json"))
        assert traced["mixture"] == newest(run).value["mixture"]
        (row,) = traced["rows"]
        assert (row["length"], row["component"]) == (length, f"chat/{stratum}")
        assert [piece["document"] for piece in row["pieces"]] == [name]
        batch = next(
            batch
            for batch in open_mixture(run, batch_size=2, objective="llada_sft")
            if piece["global_row"] in batch.rows.tolist()
        )
        assert batch.clean.shape == (2, length)


def test_held_out_rows_are_traced(built: Path):
    run = str(built / "bucketed")
    loader = open_mixture(run, batch_size=3, objective="llada_sft", split="validation")
    for batch in loader:
        for k, component, stored in zip(batch.rows, batch.component, batch.stored_row, strict=True):
            if k >= 0:
                told = json.loads(asked("trace", run, "--row", str(k), "--split", "validation", "--json"))
                (row,) = told["rows"]
                assert (row["component"], row["stored_row"]) == (batch.component_names[component], int(stored))


def test_files_of_rows_have_one_length(built: Path, tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    run = built / "bucketed"
    with pytest.raises(ValueError, match="rows of 64, 96, 128 and 256 tokens: give --length, and each a folder"):
        exported(run, "datasets", tmp_path / "all")
    for length in LENGTHS:
        done = exported(run, "datasets", tmp_path / f"{length}", length=length)
        assert (done["sequence_length"], done["lengths"]) == (length, [length])
        expected = sorted(tokens for _, own, tokens, _ in rows_of(run, "train").values() if own == length)
        rows = datasets.load_from_disk(str(tmp_path / f"{length}"))
        assert {len(row["input_ids"]) for row in rows} == {length}
        assert sorted(row["input_ids"][: sum(row["attention_mask"])] for row in rows) == expected
    with pytest.raises(ValueError, match=r"rows of 65 tokens are asked for, and .* has rows of 64, 96, 128 and 256"):
        exported(run, "datasets", tmp_path / "none", length=65)
    with pytest.raises(ValueError, match=r"rows of 256 tokens are asked for, and .* one length: leave out --length"):
        exported(built / "plain", "datasets", tmp_path / "none", length=256)


def test_rows_in_the_order_of_training_are_those_of_a_length(built: Path, tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    exported(built / "bucketed", "datasets", tmp_path / "out", length=64, num_rows=8)
    batches = open_mixture(str(built / "bucketed"), batch_size=4, objective="dream")
    first = [ids for batch in batches if batch.clean.shape[1] == 64 for ids in batch.clean.tolist()][:8]
    rows = datasets.load_from_disk(str(tmp_path / "out"))
    assert [row["input_ids"] for row in rows] == first


def test_rows_of_a_length_come_from_all_sources_as_in_training(copied: Path):
    datasets = pytest.importorskip("datasets")
    source = "  - {name: chat, reader: chat, root: raw, paths: [raw/*.jsonl]}\n"
    two = "".join(source.replace("chat,", f"{n},", 1).replace("*", n[1:]) for n in ("s0", "s1"))
    Path("two.yaml").write_text(BUCKETED.replace(source, two).replace("batch_size: 4", "batch_size: 2"))
    run_inline(Path("two.yaml"), "two")
    batches = list(open_mixture("two", batch_size=2, objective="dream"))
    for length in BUCKETS:
        taken = [ids for batch in batches if batch.clean.shape[1] == length for ids in batch.clean.tolist()]
        count = max(1, len(taken) * 2 // 3)
        exported(Path("two"), "datasets", Path(f"{length}"), length=length, num_rows=count)
        assert [row["input_ids"] for row in datasets.load_from_disk(str(length))] == taken[:count]
        told = f"--rows {len(taken) + 1} is more than the {len(taken)} rows of {length} tokens that training takes"
        with pytest.raises(ValueError, match=told):
            exported(Path("two"), "datasets", Path("more"), length=length, num_rows=len(taken) + 1)


@pytest.mark.parametrize("kind", ["dllm", "megatron"])
def test_all_lengths_and_the_longest_alone_are_two_exports(built: Path, tmp_path: Path, kind: str):
    whole = exported(built / "bucketed", kind, tmp_path / "out")
    assert (whole["sequence_length"], whole["lengths"]) == (256, list(LENGTHS))
    assert whole["documents"] == len(rows_of(built / "bucketed", "train"))
    with pytest.raises(ValueError, match="holds another export"):
        exported(built / "bucketed", kind, tmp_path / "out", length=256)


def test_the_page_tells_lengths(built: Path):
    pytest.importorskip("matplotlib")
    page = html.unescape(page_of(built / "bucketed").decode()).replace("<wbr>", "")
    assert "Rows of 64, 96, 128 and 256 tokens." in page
    packed = rows_of(built / "bucketed", "train/length=64").values()
    fill = sum(len(tokens) for _, _, tokens, _ in packed) / (64 * len(packed))
    (table,) = re.findall(r"<caption>Components: sources by stratum</caption>.*?</table>", page, re.DOTALL)
    (cells,) = re.findall(r"<tr>(?:(?!</tr>).)*>chat/train/length=64<.*?</tr>", table, re.DOTALL)
    assert f">{percent(fill, 1)}</td>" in cells
    lengths = [length for _, length, _, _ in rows_of(built / "bucketed", "train").values()]
    total = sum(3 * lengths.count(length) // 4 * 4 for length in LENGTHS)
    assert f"Told of {total:,} rows of 64, 96, 128 and 256 tokens" in page


def test_only_what_changed_is_packed_again(copied: Path):
    def again(text: str) -> list[str]:
        Path("bucketed.yaml").write_text(text)
        """Units that are packed again."""
        return [name for name in run_inline(Path("bucketed.yaml"), "bucketed")[1] if name.startswith("unit")]

    before = newest("bucketed")
    assert not again(BUCKETED.replace("batch_size: 4", "batch_size: 8"))
    assert newest("bucketed").mixture_hash != before.mixture_hash
    assert newest("bucketed").value["shards"] == before.value["shards"]
    assert len(again(BUCKETED.replace("[64, 96, 128]", "[64, 128]"))) == 3
    assert {length for _, length, _, _ in rows_of(Path("bucketed")).values()} == {64, 128, 256}
    assert not again(BUCKETED)


def test_what_is_taken_down_is_in_no_row(copied: Path):
    before = rows_of(Path("bucketed"))
    name = next(name for name, row in before.items() if row[0] == "train/length=64")
    removed(Path("bucketed"), Asked(ids=(f"{name[0]}:{name[1]}",), reason="asked"))
    after = rows_of(Path("bucketed"))
    assert before.keys() - after.keys() == {name}
    assert {one: after[one] for one in after} == {one: row for one, row in before.items() if one != name}


def test_a_mix_does_not_take_it(built: Path):
    with pytest.raises(ValueError, match="has rows of 64, 96, 128 and 256 tokens, and a mix takes runs of one length"):
        open_to_mix(None, str(built / "bucketed"))


@pytest.mark.parametrize(
    ("before", "after", "shares"),
    [
        ("max_epochs: 3", "max_epochs: 30, weights: {chat: 1}", None),
        (
            "max_epochs: 3",
            "max_epochs: 300, weights: {chat/train/length=96: 1, chat/train/length=64: 3, chat: 4}",
            {96: 1 / 8, 64: 3 / 8},
        ),
    ],
)
def test_weights_of_a_length(copied: Path, before: str, after: str, shares: dict[int, float] | None):
    Path("bucketed.yaml").write_text(BUCKETED.replace(before, after).replace("batch_size: 4", "batch_size: 2"))
    run_inline(Path("bucketed.yaml"), "bucketed")
    sizes = rows_of(Path("bucketed"), "train").values()
    if shares is None:
        whole = sum(len(row[2]) for row in sizes)
        shares = {length: sum(len(row[2]) for row in sizes if row[1] == length) / whole for length in LENGTHS}
    mixture = read_mixture(Storage("bucketed"), newest("bucketed").value["mixture"])
    weights = dict.fromkeys(LENGTHS, 0.0)
    for one in mixture.components:
        weights[mixture.length_of(one)] += one.weight
    for length, share in shares.items():
        assert weights[length] / sum(weights.values()) == pytest.approx(share)


def test_what_was_seen_often_counts_more_in_rows_of_every_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_raw([*records()[:30], *records()[:10]], TEMPLATE)
    text = BUCKETED.replace("validation_fraction: 0.2", "by: [copies], copies: [1, 2]")
    Path("r.yaml").write_text(text.replace("batch_size: 4", "batch_size: 1, rehydrate: {2: 3}"))
    run_inline(Path("r.yaml"), "out")
    mixture = read_mixture(Storage("out"), newest("out").value["mixture"])
    packed = rows_of(Path("out")).values()
    assert {one.name for one in mixture.components} == {f"chat/{stratum}" for stratum, _, _, _ in packed}
    for copies, weight in (("1", 1), ("2+", 3)):
        mine = [one for one in mixture.components if f"/copies={copies}/length=" in one.name]
        assert len(mine) > 1
        assert all(one.weight == weight * one.tokens for one in mine)


def test_tokens_that_are_asked_for(copied: Path):
    text = BUCKETED.replace("max_epochs: 3", "max_epochs: 3, tokens: TOKENS")
    Path("bucketed.yaml").write_text(text.replace("TOKENS", "4000"))
    run_inline(Path("bucketed.yaml"), "bucketed")
    Path("bucketed.yaml").write_text(text.replace("TOKENS", "40000"))
    with pytest.raises(ValueError, match=r"a plan of \d+ rows takes .* in batches of 4. Plan at most \d+ rows"):
        run_inline(Path("bucketed.yaml"), "bucketed")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("[64, 96, 128]", "[64, 32]", r"rising, below `length` \(256\)"),
        ("[64, 96, 128]", "[64, 256]", r"rising, below `length` \(256\)"),
        ("[64, 96, 128]", "[0, 64]", "row lengths above 0"),
        ("[64, 96, 128]", "[32, 60], align: 8", "60"),
        ("layout: dialogue", "layout: concat", "`buckets` are for layouts with a row for each; `layout: concat` fills"),
        (", batch_size: 4", "", r"say how many rows, such as `mixture: \{batch_size: 256\}`"),
        (", buckets: [64, 96, 128]", "", r"mixture.batch_size is for rows of several lengths"),
        ("batch_size: 4", "batch_size: 0", "greater than 0"),
    ],
)
def test_recipes_that_say_nothing_sensible_are_refused(before: str, after: str, message: str):
    with pytest.raises(RecipeError, match=message):
        load_recipe(BUCKETED.replace(before, after), "r.yaml")


def chosen_and_rejected(number: int) -> dict[str, Any]:
    chosen = "It is so. " + "Yes. " * (number * 3)
    return {"prompt": f"What is {number}?", "chosen": chosen.strip(), "rejected": "No. " * (1 + number % 5) + "Never."}


@pytest.mark.parametrize(
    ("layout", "record", "objective"),
    [
        ("preference", chosen_and_rejected, "preference"),
        (
            "prompts",
            lambda number: {"prompt": "Why? " * (1 + 4 * number), "answer": f"{number}", "checker": "number"},
            "prompts",
        ),
    ],
)
def test_pairs_and_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, record: Any, objective: str):
    monkeypatch.chdir(tmp_path)
    write_raw([record(number) for number in range(30)], TEMPLATE)
    Path("r.yaml").write_text(BUCKETED.replace("layout: dialogue", f"layout: {layout}").replace("0.2", "0.0"))
    run_inline(Path("r.yaml"), "out")
    storage = Storage("out")
    lengths = []
    for receipt in checks.receipts_in(storage, newest("out"), "pack"):
        for shard in shards_of(receipt):
            for batch in read_batches(storage, shard):
                own = SequenceFormat.of(batch.schema).length
                for valid in batch.column("valid").to_pylist():
                    assert own == min(known for known in LENGTHS if known >= valid)
                    lengths.append(own)
    assert len(lengths) >= 25
    assert len(set(lengths)) > 2
    assert ", 0 not as " in asked("verify", "out")
    shapes = {batch.clean.shape for batch in open_mixture("out", batch_size=4, objective=objective)}
    assert shapes <= {(4, length) for length in LENGTHS}
    assert len(shapes) > 1
    numbers = np.concatenate([batch.rows for batch in open_mixture("out", batch_size=4, objective=objective)])
    assert numbers.tolist() == list(range(len(numbers)))
