"""A run over conversations: what is kept of them, what people see, and that erased is erased."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.pipeline.chat.plain_rows import ROWS
from tests.pipeline.corpus import prose, write_recipe
from tests.pipeline.query.test_sql import ask
from tests.pipeline.runs import newest, opened, run_inline, tokenmill
from tests.pipeline.test_takedown import assert_whole, removed
from tests.pipeline.test_takedown_erase import erased, texts_in
from tokenmill.manifests.schemas import TURNS
from tokenmill.pipeline import checks
from tokenmill.pipeline.chat.turns import conversations_of
from tokenmill.pipeline.look import sample, seen_at
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.seen import as_json, described
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import read_table
from tokenmill.pipeline.takedown import Asked

RECIPE = """
name: chat
output: unused
tokenizer: {train: {vocab_size: 400, sample_bytes: 1MiB}}
sources:
  - name: sft
    reader: chat
    paths: ["{folder}/raw/*.jsonl"]
    root: "{folder}/raw"
    columns: {url: link}
    filters:
      - gopher_quality: {min_words: 5, min_stop_words: null}
      - c4: {terminal_punctuation: false, min_sentences: null}
"""
RECIPE += ROWS
SECRET = "Zanzibar"


def record(number: int) -> dict[str, Any]:
    """One of five shapes."""
    question, answer = prose(f"q{number}", 2), prose(number, 6)
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {
        0: {"messages": [{"role": "system", "content": "Be kind to all people."}, *turns], "id": number},
        1: {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]},
        2: {"instruction": question, "output": f"{answer}\n\nShort\n\n{prose(f'more {number}', 1)}"},
        3: {"prompt": question, "chosen": answer, "rejected": prose(f"r{number}", 3)},
        4: {"prompt": question, "answer": f"{number}", "checker": "number"},
    }[number % 5]


def secret_record() -> dict[str, Any]:
    """The secret stands in every column of `turns`, and in the text."""
    call = {"function": {"name": SECRET, "arguments": {}}}
    turns = [
        {"role": "user", "content": f"{SECRET} {prose('secret', 3)}"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": SECRET},
    ]
    return {"messages": turns, "answer": SECRET, "checker": SECRET, "tools": [call], "link": "http://s.example/1"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    (folder / "raw").mkdir()
    records = [record(number) for number in range(60)]
    records[10]["id"] = 5
    records[5]["id"] = 5
    records[20] = {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}
    records += [secret_record(), records[0]]
    (folder / "raw" / "a.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    (folder / "raw" / "b.jsonl").write_text("")
    run_inline(write_recipe(folder, RECIPE), folder / "out")
    return folder


def test_the_books_of_the_run(built: Path):
    value = newest(built / "out").value
    steps = value["balance"]["sft"]["steps"]
    assert {reason: tally[0] for reason, tally in steps["ingest"]["failed"].items()} == {
        "chat.role_order": 1,
        "empty_file": 1,
    }
    assert steps["deduplicate"]["dropped"]["dedup.exact"][0] == 1
    (receipt,) = checks.receipts_in(Storage(str(built / "out")), newest(built / "out"), "ingest")
    assert [output.name for output in receipt.outputs] == ["documents", "turns"]
    assert receipt.notes["repeated_ids"] == 2  # 5 comes twice, and 0
    assert_whole(built / "out")


def test_turns_lie_beside_their_texts(built: Path):
    (documents,), (turns,) = (list((built / "out").glob(f"{name}/sft/*")) for name in ("documents", "turns"))
    found = pq.read_table(turns)
    assert found.schema == TURNS
    texts = pq.read_table(documents).column("text").combine_chunks()
    conversations = conversations_of(texts, found.combine_chunks().to_batches()[0])
    kinds = [None if each is None else each.kind for each in conversations]
    assert kinds[:5] == [*["conversation"] * 3, "preference", "verifiable"]
    assert [row for row, kind in enumerate(kinds) if kind is None] == [20, 62]
    assert conversations[3].turns[2].content == record(3)["rejected"]


def test_turns_that_are_not_the_text_are_counted(built: Path, tmp_path: Path):
    shutil.copytree(built / "out", tmp_path / "out")
    (path,) = (tmp_path / "out").glob("turns/sft/*")
    rows = pq.read_table(path).to_pylist()
    rows[0]["turns"][1]["end"] += 1
    table = pq.read_table(path).from_pylist(rows, schema=TURNS)
    pq.write_table(table, path)
    found = checks.recount(Storage(str(tmp_path / "out")), newest(tmp_path / "out"))
    assert [problems for task, problems in found if "ingest" in task] == [
        ["the turns of 1 conversations are not their text"]
    ]
    pq.write_table(table.slice(1), path)
    found = checks.recount(Storage(str(tmp_path / "out")), newest(tmp_path / "out"))
    assert ["has other rows" in str(problems) for task, problems in found if "ingest" in task] == [True]


def test_sql_has_a_row_a_turn(built: Path):
    rows = ask(built / "out", "SELECT * FROM turns ORDER BY row, turn")
    assert len(rows) == 60 // 5 * (3 + 2 + 2 + 3 + 1) - 3 + 3 + 3
    assert [(row["row"], row["turn"], row["role"], row["branch"], row["kind"]) for row in rows[7:11]] == [
        (3, 0, "user", None, "preference"),
        (3, 1, "assistant", "chosen", "preference"),
        (3, 2, "assistant", "rejected", "preference"),
        (4, 0, "user", None, "verifiable"),
    ]
    assert rows[8]["content"] == record(3)["chosen"]
    assert rows[10]["answer"] == "4"
    assert ask(built / "out", "SELECT role, count(*) AS n FROM turns WHERE row < 5 GROUP BY role ORDER BY role") == [
        {"role": "assistant", "n": 5},
        {"role": "system", "n": 1},
        {"role": "user", "n": 5},
    ]
    joined = "SELECT kept FROM turns JOIN decisions USING (source, part, row) WHERE turn = 0 AND row = 0"
    assert ask(built / "out", joined) == [{"kept": True}]


def test_people_see_it_turn_by_turn(built: Path):
    run = opened(built / "out")
    (part,) = run.parts["sft"]
    shown = described(seen_at(run, "sft", part, 3), 5000)
    assert f"│ user: {record(3)['prompt']}\n" in shown
    assert "│ assistant (chosen): " in shown
    assert "│ answer (checker number): 4" in described(seen_at(run, "sft", part, 4), 5000)
    # C4 took a line out of this one: turns are those of the edited text
    seen = seen_at(run, "sft", part, 2)
    assert seen.conversation is not None
    assert "Short" not in seen.conversation.turns[1].content
    assert seen.conversation.turns[1].content.startswith(record(2)["output"][:40])
    assert [turn["role"] for turn in as_json(seen, 40)["conversation"]["turns"]] == ["user", "assistant"]
    json.dumps(as_json(seen_at(run, "sft", part, 60), 40))
    assert '│   tool_calls: [{"function": {"name": "Zanzibar"' in described(seen_at(run, "sft", part, 60), 5000)
    _, failed = sample(run, "sft", "failed.chat", 9)
    assert [f"tokenmill where RUN {part}:20 --raw" in described(each, 99) for each in failed] == [True]


def test_why_shows_the_record_that_is_no_conversation(built: Path):
    (part,) = opened(built / "out").parts["sft"]
    told = tokenmill("why", str(built / "out"), f"{part}:20")
    assert "chat.role_order, turn 1 is user's, after user's" in told
    assert '│ {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}' in told


def test_what_is_taken_down_leaves_no_byte_in_turns(built: Path, tmp_path: Path):
    shutil.copytree(built / "out", tmp_path / "out")
    output = tmp_path / "out"
    assert {name.split("/")[0] for name, text in texts_in(output) if SECRET in text} >= {"documents", "turns"}
    run = opened(output)
    (turns,) = output.glob("turns/sft/*")
    row = read_table(run.storage, str(turns.relative_to(output))).slice(60, 1).to_pylist()[0]
    assert all(SECRET in str(row[name]) for name in ("turns", "tools", "answer", "checker"))
    removed(output, Asked(urls=("http://s.example/1",)))
    erased(output)
    assert {name.split("/")[0] for name, text in texts_in(output) if SECRET in text} == set()
    assert_whole(output)
    assert "its text was erased" in described(seen_at(opened(output), "sft", next(iter(run.parts["sft"])), 60), 99)


@pytest.mark.parametrize("of", ["prompt", "answer"])
def test_nor_where_one_side_is_compared(built: Path, tmp_path: Path, of: str):
    """What duplicates by one side leave behind, verified by their texts, is erased with them."""
    shutil.copytree(built / "raw", tmp_path / "raw")
    other = secret_record() | {"link": "http://s.example/2"}
    other["messages"] = [turn | {"content": f"{turn['content']} And {SECRET}."} for turn in other["messages"]]
    with (tmp_path / "raw" / "a.jsonl").open("a") as file:
        file.write(json.dumps(other) + "\n" + json.dumps(secret_record() | {"link": "http://s.example/3"}) + "\n")
    recipe = write_recipe(tmp_path, RECIPE + f"dedup: {{of: {of}, verify: text}}\n")
    output = tmp_path / "out"
    run_inline(recipe, output)
    steps = newest(output).value["balance"]["sft"]["steps"]
    assert sum(tally[0] for tally in steps["deduplicate"]["dropped"].values()) >= 2
    assert any(SECRET in text for _, text in texts_in(output))
    removed(output, Asked(urls=tuple(f"http://s.example/{number}" for number in (1, 2, 3))))
    erased(output)
    assert {name.split("/")[0] for name, text in texts_in(output) if SECRET in text} == set()
    assert_whole(output)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("chat: {shap: alpaca}", "unknown key 'shap': did you mean 'shape'"),
        ("chat: {shape: alpacca}", "'messages', 'sharegpt', 'alpaca'"),
        ("chat: {columns: {message: m}}", "unknown key 'message': did you mean 'messages'"),
        ("chat: {columns: {prompt: m, answer: m}}", "column 'm' stands twice"),
        ("chat: {roles: {bot: robot}}", "'system', 'user', 'assistant' or 'tool'"),
        ("columns: {text: messages}", "the text of a conversation is its turns"),
    ],
)
def test_settings_that_cannot_be(setting: str, message: str):
    text = RECIPE.replace("columns: {url: link}", setting)
    with pytest.raises(RecipeError, match=message.replace("{", r"\{")):
        load_recipe(text, "r.yaml")


def test_chat_says_nothing_to_other_readers():
    text = RECIPE.replace("reader: chat", "reader: jsonl").replace("columns: {url: link}", "chat: {shape: alpaca}")
    with pytest.raises(RecipeError, match="`chat` says nothing to reader jsonl, only to chat"):
        load_recipe(text, "r.yaml")
