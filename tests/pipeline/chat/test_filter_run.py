"""Filters `chat` and `chat_language` in a run: on the edited turns, with bounds, percentiles, receipts; duplicates."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.chat.plain_rows import ROWS
from tests.pipeline.corpus import prose, write_recipe
from tests.pipeline.runs import newest, opened, run_inline
from tests.pipeline.test_takedown import assert_whole
from tokenmill.filters.chat import ChatParams, chat_signals
from tokenmill.filters.edits import apply_edits
from tokenmill.filters.turns import moved_turns
from tokenmill.pipeline import checks
from tokenmill.pipeline.look import sample
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.seen import described
from tokenmill.pipeline.storage import Storage

RECIPE = """
name: chat
output: unused
tokenizer: {train: {vocab_size: 400, sample_bytes: 1MiB}}
sources:
  - name: sft
    reader: chat
    paths: ["{folder}/raw/*.jsonl"]
    root: "{folder}/raw"
    filters:
      - c4: {terminal_punctuation: false, min_sentences: null}
      - chat: {max_longest_answer_bytes: {percentile: 95}}
      - chat_language: {max_language_mismatch: 0, sure_score: 0.5}
"""
RECIPE += ROWS
GERMAN = "Die alte Brücke steht am Rand der Stadt, und niemand weiß, wer sie gebaut hat. Der Fluss ist ruhig und breit."


def dialogue(question: str, answer: str) -> dict[str, Any]:
    return {"prompt": question, "response": answer}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    (folder / "raw").mkdir()
    records = [dialogue(prose(f"q{n}", 2), prose(n, 6 + n % 5)) for n in range(60)]
    records[3] = dialogue(prose("q3", 2), "It is so in every river of this land. " * 3)
    records[4] = dialogue(prose("q4", 2), "<think>Let me see. And so it goes on.")
    records[5] = dialogue(prose("q5", 2), GERMAN)
    records[6] = dialogue(prose("q6", 2), prose("long", 90))
    # C4 takes lines of one word: what is left of this answer is nothing
    records[7] = dialogue(prose("q7", 2), "Short\n\nLines")
    records[8] = records[9]
    records[11] = dialogue(records[12]["prompt"], records[12]["response"].rsplit(" ", 1)[0] + " again.")
    (folder / "raw" / "a.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    run_inline(write_recipe(folder, RECIPE), folder / "out")
    return folder


def test_what_is_dropped(built: Path):
    output = built / "out"
    steps = newest(output).value["balance"]["sft"]["steps"]
    assert {reason: tally[0] for reason, tally in steps["select"]["dropped"].items()} == {
        "chat.max_empty_answers": 1,
        "chat.max_unfinished_thinks": 1,
        "chat.max_loop_repeats": 1,
        "chat.max_longest_answer_bytes": 3,
        "chat_language.max_language_mismatch": 1,
    }
    assert {reason: tally[0] for reason, tally in steps["deduplicate"]["dropped"].items()} == {
        "dedup.exact": 1,
        "dedup.near": 1,
    }
    assert_whole(output)
    _, (seen,) = sample(opened(output), "sft", "chat.max_loop_repeats", 9)
    assert "chat.max_loop_repeats: chat.loop_repeats is 3, the bound is 2" in described(seen, 900)
    assert "│ assistant: It is so in every river" in described(seen, 900)


def test_signals_are_those_of_the_edited_turns(built: Path):
    def table(name: str) -> pa.RecordBatch:
        (path,) = (built / "out" / name).glob("sft/*")
        return pq.read_table(path).combine_chunks().to_batches()[0]

    edits = table("edits/c4")
    assert edits.num_rows
    texts = apply_edits(table("documents").column("text").cast(pa.large_string()), edits, 0)
    expected = chat_signals(texts, ChatParams(), moved_turns(table("turns"), edits, 0))
    assert table("signals/chat").to_pylist() == expected.to_pylist()


def test_a_changed_bound_measures_nothing_again_and_a_changed_param_the_group_alone(built: Path):
    def measured() -> set[str]:
        receipts = checks.receipts_in(Storage(str(built / "out")), newest(built / "out"), "ingest", "annotate")
        return {f"{receipt.step} {receipt.task} {receipt.key}" for receipt in receipts}

    recipe, before = built / "recipe.yaml", measured()
    recipe.write_text(recipe.read_text().replace("- chat: {", "- chat: {max_refusals: 0, "))
    run_inline(recipe, built / "out")
    assert measured() == before
    recipe.write_text(recipe.read_text().replace("- chat: {", "- chat: {refusals: [no way], "))
    run_inline(recipe, built / "out")
    assert [task.split()[1].partition(".")[2] for task in measured() - before] == ["chat"]


def test_turns_are_asked_of_reader_chat_alone():
    with pytest.raises(RecipeError, match="filter chat looks at turns, which reader jsonl does not find"):
        load_recipe(RECIPE.replace("reader: chat", "reader: jsonl"), "r.yaml")
