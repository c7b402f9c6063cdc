"""Conversations as packed rows: tokens and answers against `transformers`, what is left out, books, and the loader."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from tests.pipeline.chat.raw_chats import write_raw
from tests.pipeline.runs import newest, run_inline
from tokenmill.manifests.balance import Balance
from tokenmill.manifests.mixture import Mixture
from tokenmill.manifests.receipts import Receipt
from tokenmill.pipeline import checks
from tokenmill.pipeline.cli import cli
from tokenmill.pipeline.loader import open_mixture
from tokenmill.pipeline.packed import read_batches, shards_of
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.storage import Storage

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message.content + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
WORDS = (
    "the mask",
    "of a token",
    "is",
    "what",
    "its model",
    "thinks",
    "that",
    "data",
    "says",
    "about noise",
    "and why",
)
OBJECTIVE = {"concat": "illada", "dialogue": "llada_sft"}
RECIPE = """
name: sft
tokenizer:
  train: {vocab_size: 500, sample_bytes: 1MiB, control_tokens: ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]}
sources:
  - {name: chat, reader: chat, root: raw, paths: [raw/*.jsonl]}
dedup: {near: false}
template: {path: template.jinja}
sequences: {length: 256, layout: LAYOUT}
mixture: {max_epochs: 12}
"""


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count)) + "."


def records() -> list[dict[str, Any]]:
    rng = random.Random(3)
    found: list[dict[str, Any]] = []
    for number in range(60):
        turns = [{"role": "system", "content": "Be kind."}] if number % 3 == 0 else []
        for turn in range(1 + number % 3):
            thought = f"<think>\n{words(rng, 3)}\n</think>\n\n" if number % 5 == 0 else ""
            turns.append({"role": "user", "content": words(rng, 4 + number % 7)})
            turns.append({"role": "assistant", "content": thought + words(rng, 5 + 3 * turn)})
        found.append({"messages": turns})
    found.append(
        {"messages": [{"role": "user", "content": "Long?"}, {"role": "assistant", "content": words(rng, 900)}]}
    )
    found.append({"prompt": "Which?", "chosen": "This " + words(rng, 4), "rejected": "None."})
    found.append({"prompt": "Two and two?", "answer": "4", "checker": "number"})
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sft")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("raw").mkdir()
        lines = [json.dumps(record) + "\n" for record in records()]
        Path("raw/a.jsonl").write_text("".join(lines) + "{broken\n")
        Path("template.jinja").write_text(TEMPLATE)
        for layout in ("concat", "dialogue"):
            Path(f"{layout}.yaml").write_text(RECIPE.replace("LAYOUT", layout))
            run_inline(Path(f"{layout}.yaml"), layout)
    return folder


def of_transformers(folder: Path) -> PreTrainedTokenizerFast:
    path = next(folder.glob("tokenizer/tokenizer.*.json"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_file(str(path)))
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def packed(folder: Path) -> dict[int, tuple[list[int], list[int]]]:
    """Tokens and marks of answers of each conversation, by its row."""
    storage = Storage(str(folder))
    receipts = checks.receipts_in(storage, newest(folder), "pack")
    found: dict[int, tuple[list[int], list[int]]] = {}
    for shard in [shard for receipt in receipts for shard in shards_of(receipt)]:
        for batch in read_batches(storage, shard):
            for row in batch.to_pylist():
                told = [i % 2 for i, run in enumerate(row["maskable"]) for _ in range(run)]
                at = 0
                for number, start, size in zip(
                    row["document_rows"], row["document_starts"], row["document_lengths"], strict=True
                ):
                    assert start == 0
                    assert number not in found
                    found[number] = (row["tokens"][at : at + size], told[at : at + size])
                    at += size
    return found


@pytest.mark.parametrize("layout", ["concat", "dialogue"])
def test_tokens_and_answers_are_those_of_transformers_and_an_end(built: Path, layout: str):
    tokenizer = of_transformers(built / layout)
    eos = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    found = packed(built / layout)
    assert sorted(found) == [*range(60), 61]
    for number, record in enumerate(records()[:60]):
        expected = tokenizer.apply_chat_template(
            record["messages"], return_dict=True, return_assistant_tokens_mask=True
        )
        tokens, answers = found[number]
        assert tokens == [*expected["input_ids"], eos]
        # the newline behind the last answer leads to the end of the text, so it is learnt
        assert answers == [*expected["assistant_masks"][:-1], 1, 1]
    chosen = tokenizer.decode(found[61][0])
    assert "This " in chosen
    assert "None." not in chosen


@pytest.mark.parametrize("layout", ["concat", "dialogue"])
def test_books(built: Path, layout: str):
    storage, published = Storage(str(built / layout)), newest(built / layout)
    sheet = published.value["balance"]["chat"]
    books = Balance.from_json(sheet["steps"]["pack"])
    dropped = {name: tally.documents for name, tally in books.dropped.items()}
    assert dropped == {"pack.longer_than_row": 1, "pack.unanswered": 1}
    found = packed(built / layout)
    roles = sheet["roles"]
    assert roles["answer_tokens"] == sum(sum(answers) for _, answers in found.values())
    assert roles["answer_eos_tokens"] == len(found) == 61
    by_role = ("system", "user", "assistant", "tool", "template")
    assert sum(roles[f"{name}_tokens"] for name in by_role) == sum(len(tokens) for tokens, _ in found.values())
    assert roles["tool_tokens"] == 0 < roles["system_tokens"] < roles["user_tokens"]
    assert [problem for _, problem in checks.verify(storage, published) if problem] == []
    assert [problems for _, problems in checks.recount(storage, published) if problems] == []
    assert Mixture.from_json(storage.read(published.value["mixture"])).layout == layout


def test_a_receipt_that_counts_answers_otherwise_is_noticed(built: Path, tmp_path: Path, monkeypatch):
    storage, published = Storage(str(built / "concat")), newest(built / "concat")
    whole = checks.receipts_in

    def edited(*arguments: Any) -> list[Receipt]:
        receipts = whole(*arguments)
        for receipt in receipts:
            if receipt.step == "pack":
                receipt.notes["answer_tokens"] += 1
                receipt.notes["user_tokens"] += 1
        return receipts

    monkeypatch.setattr(checks, "receipts_in", edited)
    told = "\n".join(problem for _, problems in checks.recount(storage, published) for problem in problems)
    assert "answer_tokens: the receipt says" in told
    assert "tokens by role are" in told


@pytest.mark.parametrize(
    ("layout", "objectives"),
    [("concat", ["illada", "autoregressive"]), ("dialogue", ["llada_sft", "dream", "block", "canvas"])],
)
def test_every_objective_reads_its_layout(built: Path, layout: str, objectives: list[str]):
    for objective in objectives:
        with open_mixture(str(built / layout), batch_size=4, objective=objective) as loader:
            visits = 12 * sum(component.rows for component in loader.plan.mixture.components)
            assert sum(len(batch.rows) for batch in loader) == visits // 4 * 4
    with pytest.raises(ValueError, match=r"pack them with `sequences: \{layout: "):
        open_mixture(str(built / layout), batch_size=4, objective="dream" if layout == "concat" else "autoregressive")


def test_labels_are_the_answers(built: Path):
    found = packed(built / "concat")
    answered = sum(sum(answers) for _, answers in found.values())
    batches = open_mixture(str(built / "concat"), batch_size=1, objective="autoregressive")
    rows = sum(component.rows for component in batches.plan.mixture.components)
    labels = [np.count_nonzero(batch.labels != -100) for batch, _ in zip(batches, range(rows), strict=False)]
    assert sum(labels) == answered


def test_another_template_packs_again_and_redoes_nothing_before(built: Path, tmp_path: Path, monkeypatch):
    shutil.copytree(built, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    assert run_inline(Path("concat.yaml"), "concat")[1] == []
    Path("template.jinja").write_text(TEMPLATE.replace("'\\n' }}{% endfor %}", "'' }}{% endfor %}"))
    _, tasks = run_inline(Path("concat.yaml"), "concat")
    assert tasks == ["template", "unit chat-g0"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("reader: chat, root: raw, paths: [raw/*.jsonl]", "reader: jsonl, paths: [x]"),
            "source chat has reader jsonl",
        ),
        (("layout: LAYOUT", "packing: concat"), "reads conversations, which want `sequences: {layout: concat}` or"),
        (("LAYOUT", "dialogue, packing: concat"), "`packing` says nothing to `layout: dialogue`"),
        (("LAYOUT", "dialogue, whole_documents: false"), "none can be cut"),
        (("LAYOUT", "columns"), "layout"),
        (("{path: template.jinja}", "{path: a, text: b}"), "give either `path` or `text`"),
        (("template: {path: template.jinja}", ""), "lies no chat template: `template: {path: …}`"),
        (("template: {path: template.jinja}", "template: {}"), "lies no chat template: `template: {path: …}`"),
    ],
)
def test_what_cannot_be_is_refused(change: tuple[str, str], message: str):
    assert RECIPE.count(change[0]) == 1
    with pytest.raises(RecipeError) as error:
        load_recipe(RECIPE.replace(*change).replace("LAYOUT", "concat"), "r.yaml")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("template", "message"),
    [("{path: nowhere.jinja}", "no file 'nowhere.jinja'"), ('{text: "{% if %}"}', "the chat template is no Jinja")],
)
def test_a_template_that_is_none_is_refused_before_any_work(built: Path, template: str, message: str, monkeypatch):
    monkeypatch.chdir(built)
    path = Path("refused.yaml")
    path.write_text(RECIPE.replace("{path: template.jinja}", template).replace("LAYOUT", "concat"))
    with pytest.raises(RecipeError) as error:
        run_inline(path, "refused")
    assert message in str(error.value)
    assert not Path("refused").exists()


def audited(folder: Path, *arguments: str) -> str:
    return CliRunner().invoke(cli, ["audit", str(folder), *arguments], catch_exceptions=False).stdout


@pytest.mark.parametrize("layout", ["concat", "dialogue"])
def test_the_audit_tells_visits_and_the_share_of_eos(built: Path, layout: str):
    value, text = json.loads(audited(built / layout, "--json")), " ".join(audited(built / layout).split())
    published = newest(built / layout)
    assert value["hash"] == published.path.split(".")[1]
    assert f"version 0, {value['hash']}; mixture {Path(published.value['mixture']).stem}" in text
    rows = published.value["balance"]["chat"]["rows"]
    with open_mixture(str(built / layout), batch_size=1, objective=OBJECTIVE[layout]) as loader:
        seen = sum(len(batch.rows) for batch in loader)
    assert value["visits"] == [
        {"component": "chat/train", "rows": rows, "planned": seen, "max_epochs": 12, "mean_visits": 12}
    ]
    assert f"chat/train {rows:,} {seen:,} 12.000 12" in text
    if layout == "concat":
        assert value["llada_sft"] is None
        return
    answers = [sum(marks) for _, marks in packed(built / layout).values()]
    filled = sum(256 - len(tokens) for tokens, _ in packed(built / layout).values())
    assert value["llada_sft"] == {"supervised_tokens": sum(answers) + filled, "eos_tokens": len(answers) + filled}
    share = 100 * (len(answers) + filled) / (sum(answers) + filled)
    assert f"{share:.2f} % of the tokens that it supervises are EOS" in text


def test_the_share_of_eos_is_that_of_the_batches(tmp_path: Path, monkeypatch):
    """Of dialogues of one turn it is exact."""
    monkeypatch.chdir(tmp_path)
    one_turn = [record for record in records()[:60] if sum(each["role"] == "user" for each in record["messages"]) == 1]
    write_raw(one_turn, TEMPLATE)
    Path("r.yaml").write_text(RECIPE.replace("LAYOUT", "dialogue").replace("max_epochs: 12", "max_epochs: 1"))
    run_inline(Path("r.yaml"), "out")
    told = json.loads(audited(Path("out"), "--json"))["llada_sft"]
    supervised = ends = 0
    with open_mixture("out", batch_size=1, objective="llada_sft") as loader:
        eos = loader.plan.mixture.special_ids["eos"]
        for batch in loader:
            places = np.arange(batch.clean.shape[1]) >= batch.prompt_lengths[:, None]
            supervised += np.count_nonzero(places)
            ends += np.count_nonzero(places & (batch.clean == eos))
    assert told == {"supervised_tokens": supervised, "eos_tokens": ends}
    assert len(one_turn) == 20
