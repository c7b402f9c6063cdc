"""Conversations as their trainers read them, against the shards and the raw data, read the slow obvious way."""

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.pipeline.chat.raw_chats import write_raw
from tests.pipeline.chat.test_pack import RECIPE, TEMPLATE, records
from tests.pipeline.export.small_export import exported
from tests.pipeline.export.test_folder import bytes_of
from tests.pipeline.runs import newest, run_inline
from tests.pipeline.test_takedown import removed
from tokenmill.pipeline import checks
from tokenmill.pipeline.export.conversations import Conversations
from tokenmill.pipeline.packed import read_batches, shards_of
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.takedown import Asked

KINDS = ("dfactory", "dfactory-tokens", "dream", "dllm", "automodel")
LENGTH = 256
#: Of its rules the one of citations alone.
C4 = (
    "c4: {terminal_punctuation: false, min_words_per_line: null, max_word_characters: null, "
    "drop_javascript_lines: false, drop_policy_lines: false, min_sentences: null}"
)
CALLS = [
    {"role": "user", "content": "Which is the weather?"},
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "weather", "arguments": {}}}]},
    {"role": "tool", "content": "rain"},
    {"role": "assistant", "content": "It rains here [1] today."},
]


def all_records() -> list[dict[str, Any]]:
    """Those of test_pack, one with tools, one with the calls alone, and one of citations, which are edited out."""
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    cited = [{"role": "user", "content": "Who [1] says so?"}, {"role": "assistant", "content": "He [1] does, he said."}]
    called = [{"role": "user", "content": "And there?"}, *CALLS[1:]]
    return [*records(), {"messages": CALLS, "tools": tools}, {"messages": called}, {"messages": cited}]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each layout, in two strata and several units; `cut` cuts conversations, `buckets` has rows by length."""
    folder = tmp_path_factory.mktemp("chat_export")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_raw(all_records(), TEMPLATE, files=3)
        recipe = RECIPE.replace("paths: [raw/*.jsonl]}", f"paths: [raw/*.jsonl], filters: [{C4}]}}")
        recipe = recipe.replace("name: sft", "name: sft\npart_bytes: 2KiB\nstrata: {validation_fraction: 0.2}")
        recipe = recipe.replace("layout: LAYOUT", "layout: LAYOUT, unit_bytes: 4KiB")
        for name, layout in (
            ("concat", "concat"),
            ("dialogue", "dialogue"),
            ("cut", "concat, packing: concat, whole_documents: false"),
            ("buckets", "dialogue, buckets: [64, 128]"),
        ):
            text = recipe.replace("LAYOUT", layout)
            if name == "buckets":
                text = text.replace("max_epochs: 12", "max_epochs: 12, batch_size: 2")
            Path(f"{name}.yaml").write_text(text)
            run_inline(Path(f"{name}.yaml"), name)
    return folder


Held = list[tuple[tuple[str, int], list[int], list[int]]]


def held(run: Path, split: str = "train") -> Held:
    """Identity, tokens and marks of answers of each conversation, in stored order."""
    storage = Storage(str(run))
    found: dict[tuple[str, int], list[tuple[int, list[int], list[int]]]] = {}
    shards = [shard for one in checks.receipts_in(storage, newest(run), "pack") for shard in shards_of(one)]
    for shard in sorted(shards, key=lambda shard: (shard.detail["component"], shard.detail["unit"], shard.path)):
        if shard.detail["component"].split("/")[1] != split:
            continue
        for batch in read_batches(storage, shard):
            keys = json.loads(batch.schema.metadata[b"tokenmill"])["parts"]
            for row in batch.to_pylist():
                told = [i % 2 for i, run_length in enumerate(row["maskable"]) for _ in range(run_length)]
                at = 0
                names = ("document_parts", "document_rows", "document_starts", "document_lengths")
                for part, number, start, size in zip(*(row[name] for name in names), strict=True):
                    piece = (start, row["tokens"][at : at + size], told[at : at + size])
                    found.setdefault((keys[part], number), []).append(piece)
                    at += size
    return [(identity, *_joined(sorted(pieces))) for identity, pieces in found.items()]


def _joined(pieces: list[tuple[int, list[int], list[int]]]) -> tuple[list[int], list[int]]:
    return [token for piece in pieces for token in piece[1]], [mark for piece in pieces for mark in piece[2]]


def spans(marks: list[int]) -> list[tuple[int, int]]:
    """Stretches of answers."""
    text = "".join(map(str, marks))
    found, at = [], 0
    while (begin := text.find("1", at)) >= 0:
        at = text.find("0", begin) % (len(text) + 1)
        found.append((begin, at))
    return found


@pytest.mark.parametrize("layout", ["concat", "dialogue", "cut", "buckets"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_tokens(built: Path, tmp_path: Path, layout: str, split: str):
    expected = held(built / layout, split)
    assert len(expected) > 3
    assert any(len(spans(marks)) > 1 for _, _, marks in expected)
    for kind in ("dfactory-tokens", "dllm", "automodel"):
        done = exported(built / layout, kind, tmp_path / kind, split)
        long = sum(spans(marks)[-1][1] > LENGTH for _, _, marks in expected) if kind == "dfactory-tokens" else 0
        assert (done["documents"], done["left_out"]) == (len(expected), {"longer_than_row": long} if long else {})
        assert done["tokens"] == sum(len(tokens) for _, tokens, _ in expected)
    lines = [
        json.loads(line)
        for file in files(tmp_path / "dfactory-tokens" / split)
        for line in file.read_bytes().splitlines()
    ]
    eos = end_of_text(built / layout)
    short = [(tokens, marks) for _, tokens, marks in expected if spans(marks)[-1][1] <= LENGTH]
    for line, (tokens, marks) in zip(lines, short, strict=True):
        begin, end = spans(marks)[-1]
        assert line == {"input_ids": tokens[:end] + [eos] * (LENGTH - end), "prompt_lengths": begin}
    rows = datasets.load_from_disk(str(tmp_path / "dllm"))[split]
    assert [str(feature.feature.dtype) for feature in list(rows.features.values())[:3]] == ["int32", "int64", "int8"]
    for row, (_, tokens, marks) in zip(rows, expected, strict=True):
        labels = [token if mark else -100 for token, mark in zip(tokens, marks, strict=True)]
        ones = [1] * len(tokens)
        assert row == {
            **{"input_ids": tokens, "labels": labels, "attention_mask": ones},
            "prompt_len": spans(marks)[0][0],
        }
    rows = datasets.load_from_disk(str(tmp_path / "automodel"))
    kinds = [str(feature.feature.dtype) for feature in rows.features.values()]
    assert kinds == ["int64", "float32", "int64"]
    for row, (_, tokens, marks) in zip(rows, expected, strict=True):
        assert row == {"input_ids": tokens, "loss_mask": marks, "attention_mask": [1] * len(tokens)}


def end_of_text(run: Path) -> int:
    """Id of the EOS token, which is padding too."""
    added = json.loads(next(run.glob("tokenizer/tokenizer.*.json")).read_text())["added_tokens"]
    return next(int(token["id"]) for token in added if token["content"] == "<|endoftext|>")


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def by_text(run: Path, split: str) -> list[dict[str, Any]]:
    """The raw records of what is packed, in stored order; of a pair the chosen one."""
    texts = {}
    for path in run.glob("documents/chat/*.parquet"):
        key = path.name[:16]
        for row, text in enumerate(pq.read_table(path).column("text").to_pylist()):
            texts[key, row] = text
    raw = {}
    for record in all_records():
        messages = record.get("messages")
        if messages is None and "chosen" in record:
            messages = [{"role": "user", "content": record["prompt"]}]
            pair = [*messages, {"role": "assistant", "content": record["chosen"]}]
            raw["\n\n".join([record["prompt"], record["chosen"], record["rejected"]])] = {"messages": pair}
        elif messages is not None:
            raw["\n\n".join(message["content"] for message in messages)] = record
    return [raw[texts[identity]] for identity, _, _ in held(run, split)]


def edited(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As C4's rule leaves them, without citations."""
    contents = [message["content"].replace("[1]", "") for message in messages]
    return [message | {"content": content} for message, content in zip(messages, contents, strict=True)]


@pytest.mark.parametrize("layout", ["concat", "dialogue", "cut", "buckets"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_messages(built: Path, tmp_path: Path, layout: str, split: str):
    packed = by_text(built / layout, split)
    done = exported(built / layout, "dfactory", tmp_path / "dfactory", split)
    tools = [record for record in packed if "tools" in record]
    assert done["documents"] == len(packed)
    assert done["left_out"] == ({"tools": len(tools)} if tools else {})
    lines = [
        json.loads(line) for file in files(tmp_path / "dfactory" / split) for line in file.read_bytes().splitlines()
    ]
    assert lines == [{"messages": edited(record["messages"])} for record in packed if "tools" not in record]
    done = exported(built / layout, "dream", tmp_path / "dream", split)
    plain = [record for record in packed if not any(len(message) > 2 for message in record["messages"])]
    assert sum(done["left_out"].values()) == len(packed) - len(plain)
    table = pd.concat([pd.read_parquet(file) for file in files(tmp_path / "dream" / split)])
    assert list(table.columns) == ["prompt", "response"]
    for (_, row), record in zip(table.iterrows(), plain, strict=True):
        *before, last = edited(record["messages"])
        assert list(row["prompt"]) == before  # Dream's reader makes this list of it
        assert row["response"] == last["content"]


def test_what_is_left_out_is_in_some_split(built: Path, tmp_path: Path):
    """The two conversations with tool calls, and the citations, are not all lost to the tests above."""
    found = [record for split in ("train", "validation") for record in by_text(built / "concat", split)]
    assert sum("tools" in record for record in found) == 1
    assert sum(any("tool_calls" in message for message in record["messages"]) for record in found) == 2
    assert sum("[1]" in message["content"] for record in found for message in record["messages"]) == 4


def test_the_cut_run_cuts(built: Path):
    assert newest(built / "cut").value["balance"]["chat"]["cut_documents"] > 10


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_taken_down_is_not_exported(built: Path, tmp_path: Path, kind: str):
    shutil.copytree(built / "concat", tmp_path / "run")
    before = held(tmp_path / "run")
    part, row = before[4][0]
    removed(tmp_path / "run", Asked(ids=(f"{part}:{row}",), reason="asked"))
    assert len(held(tmp_path / "run")) == len(before) - 1
    assert exported(tmp_path / "run", kind, tmp_path / "out")["documents"] == len(before) - 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bytes_again_and_nothing_for_documents(built: Path, tmp_path: Path, small_run: Path, kind: str):
    done = exported(built / "dialogue", kind, tmp_path / "one")
    assert done["chat_template"] == newest(built / "dialogue").value["template"]
    exported(built / "dialogue", kind, tmp_path / "two")
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    assert exported(built / "dialogue", kind, tmp_path / "one") == done
    with pytest.raises(ValueError, match=f"{kind} is for conversations, and .* layout 'pretraining': give megatron"):
        exported(small_run, kind, tmp_path / "three")
    with pytest.raises(ValueError, match=f"--rows and --file-bytes are for files of rows, and {kind} takes whole"):
        exported(built / "dialogue", kind, tmp_path / "three", num_rows=4)


def test_answers_at_the_borders_of_conversations():
    """Two neighbours that answer where they meet, one without an answer, and an answer at the very end."""
    marks = np.array([0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1], np.bool_)
    offsets = np.array([0, 3, 7, 10, 14])
    none = np.zeros(4, np.int32)
    some = Conversations(np.arange(14, dtype=np.uint16), marks, offsets, none, none)
    assert some.prompt_lengths().tolist() == [1, 0, 3, 1]
    begins, ends = some.last_answers()
    assert (begins.tolist(), ends.tolist()) == ([1, 3, 0, 3], [3, 4, 0, 4])
    assert [one.offsets.tolist() for one in some.slices(3)] == [[0, 3, 7, 10], [0, 4]]
