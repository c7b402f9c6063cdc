"""Preference pairs: from raw data to rows of two pieces, books and batches, against `transformers`."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from tests.pipeline.chat.packed_rows import packed_run
from tests.pipeline.chat.test_pack import RECIPE, of_transformers
from tests.pipeline.export.small_export import exported
from tests.pipeline.runs import newest
from tokenmill.manifests.balance import Balance
from tokenmill.pipeline import checks, packed
from tokenmill.pipeline.cli import cli
from tokenmill.pipeline.loader import PreferenceBatch, open_mixture
from tokenmill.pipeline.packed import read_batches, shards_of
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.storage import Storage

LENGTH = 224


def pair(number: int) -> dict[str, Any]:
    """Every third has two turns before the answers, as lists of messages."""
    prompt = [{"role": "user", "content": f"What is {number} and {number}?"}]
    if number % 3 == 0:
        prompt = [
            *prompt,
            {"role": "assistant", "content": f"{2 * number}."},
            {"role": "user", "content": "Are you sure?"},
        ]
    answers = [f"It is {2 * number}, of course. " + "Yes. " * (number % 4), f"I think {number}."]
    chosen, rejected = ([*prompt, {"role": "assistant", "content": answer.strip()}] for answer in answers)
    return {"chosen": chosen, "rejected": rejected}


def records() -> list[dict[str, Any]]:
    long = pair(99)
    long["rejected"] = [*long["rejected"][:-1], {"role": "assistant", "content": "No. " * 200}]
    others = [{"messages": pair(98)["chosen"]}, {"prompt": "Two and two?", "answer": "4", "checker": "number"}]
    return [*(pair(number) for number in range(20)), long, *others]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed_run(tmp_path_factory.mktemp("pairs"), "preference", LENGTH, records())


def expected(run: Path, number: int) -> list[tuple[list[int], list[int]]]:
    """Tokens and marks of both conversations of a pair, by `transformers`, with an end."""
    tokenizer = of_transformers(run)
    found = []
    for branch in ("chosen", "rejected"):
        told = tokenizer.apply_chat_template(pair(number)[branch], return_dict=True, return_assistant_tokens_mask=True)
        eos = tokenizer.convert_tokens_to_ids("<|endoftext|>")
        found.append(([*told["input_ids"], eos], [*told["assistant_masks"][:-1], 1, 1]))
    return found


def test_rows_hold_both_conversations(built: Path):
    storage = Storage(str(built))
    shards = [shard for one in checks.receipts_in(storage, newest(built), "pack") for shard in shards_of(one)]
    rows = [row for shard in shards for batch in read_batches(storage, shard) for row in batch.to_pylist()]
    assert sorted(row["document_rows"][0] for row in rows) == list(range(20))
    for row in rows:
        number = row["document_rows"][0]
        (chosen, marks), (rejected, other_marks) = expected(built, number)
        assert row["document_rows"] == [number, number]
        assert row["document_starts"] == [0, len(chosen)]
        assert row["document_lengths"] == [len(chosen), len(rejected)]
        assert row["tokens"][: row["valid"]] == chosen + rejected
        told = [at % 2 for at, run in enumerate(row["maskable"]) for _ in range(run)]
        assert told == marks + other_marks


def test_books(built: Path):
    storage, published = Storage(str(built)), newest(built)
    sheet = published.value["balance"]["chat"]
    books = Balance.from_json(sheet["steps"]["pack"])
    dropped = {name: tally.documents for name, tally in books.dropped.items()}
    assert dropped == {"pack.longer_than_row": 1, "pack.no_pair": 2}
    assert (books.out.documents, sheet["rows"], sheet["cut_documents"]) == (20, 20, 0)
    assert sheet["roles"]["answer_eos_tokens"] == 40
    assert [problem for _, problem in checks.verify(storage, published) if problem] == []
    assert [problems for _, problems in checks.recount(storage, published) if problems] == []


def test_batches(built: Path):
    seen: Counter[int] = Counter()
    with open_mixture(str(built), batch_size=4, objective="preference") as loader:
        for batch in loader:
            assert isinstance(batch, PreferenceBatch)
            assert batch.denominator == 4
            for row in range(4):
                begin = int(batch.chosen_lengths[row])
                end = begin + int(batch.rejected_lengths[row])
                tokens, positions = batch.clean[row].tolist(), batch.position_ids[row].tolist()
                number = next(at for at in range(20) if expected(built, at)[0][0] == tokens[:begin])
                seen[number] += 1
                (chosen, marks), (rejected, other_marks) = expected(built, number)
                assert (tokens[:begin], tokens[begin:end]) == (chosen, rejected)
                assert batch.chosen_answers[row].tolist() == [bool(mark) for mark in marks] + [False] * (LENGTH - begin)
                behind = [False] * begin + [bool(mark) for mark in other_marks] + [False] * (LENGTH - end)
                assert batch.rejected_answers[row].tolist() == behind
                assert positions == [*range(begin), *range(end - begin), *range(LENGTH - end)]
            borders = batch.cu_seqlens.tolist()
            assert (borders[0], borders[-1], len(np.unique(batch.document_ids))) == (0, 4 * LENGTH, len(borders) - 1)
    assert seen == dict.fromkeys(range(20), 2)


def test_other_objectives_and_exports_are_refused(built: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="take one of preference on these"):
        open_mixture(str(built), batch_size=4, objective="llada_sft")
    with pytest.raises(ValueError, match=r"dllm is for conversations, and .* has rows of layout 'preference'"):
        exported(built, "dllm", tmp_path)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("packing: concat", "`packing` says nothing to `layout: preference`"),
        ("whole_documents: false", "with `layout: preference` none can be cut"),
        ("align: 8", "`align` says nothing to `layout: preference`"),
    ],
)
def test_what_cannot_be_is_refused(more: str, message: str):
    with pytest.raises(RecipeError, match=message):
        load_recipe(RECIPE.replace("LAYOUT", f"preference, {more}"), "r.yaml")


def test_rows_that_are_no_pairs_are_noticed(built: Path, monkeypatch: pytest.MonkeyPatch):
    whole = packed.decode_columns

    def moved(head: bytes, data: Any, columns: Any) -> Any:
        batch = whole(head, data, columns)
        at = batch.schema.get_field_index("document_rows")
        rows = batch.column(at).to_pylist()
        rows[0][1] += 1
        return batch.set_column(at, batch.schema.field(at), pa.array(rows, batch.schema.field(at).type))

    monkeypatch.setattr(packed, "decode_columns", moved)
    told = str([problems for _, problems in checks.recount(Storage(str(built)), newest(built))])
    assert "1 rows hold pieces that are no pair" in told


def test_trace_tells_the_two_apart(built: Path):
    value = CliRunner().invoke(cli, ["trace", str(built), "--row", "3"], catch_exceptions=False).stdout
    first, second = (line for line in value.splitlines() if "conversation" in line)
    assert first.endswith("the chosen conversation")
    assert second.endswith("the rejected conversation")
    assert "it is cut" not in value
