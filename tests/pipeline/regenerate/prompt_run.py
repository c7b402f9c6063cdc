"""A small run of prompts whose answers are asked anew, and an endpoint that knows them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.pipeline.corpus import prose
from tests.pipeline.regenerate.endpoint_server import number_in, well
from tests.pipeline.runs import run_inline
from tokenmill.pipeline.progress import Quiet
from tokenmill.pipeline.recipe.file import RecipeFile, load_recipe
from tokenmill.pipeline.regenerate.source import Regenerated, regenerate
from tokenmill.pipeline.storage import Storage

RECIPE: dict[str, Any] = {
    "name": "prompts",
    "output": "out",
    "part_bytes": "2KiB",
    "tokenizer": {"train": {"vocab_size": 400, "sample_bytes": "1MiB"}},
    "sources": [
        {"name": "math", "reader": "chat", "root": "raw/math", "paths": ["raw/math/*.jsonl"]},
        {
            "name": "talk",
            "reader": "chat",
            "root": "raw/talk",
            "paths": ["raw/talk/*.jsonl"],
            "columns": {"url": "link"},
            "filters": [
                {"gopher_quality": {"min_words": 8, "min_stop_words": None}},
                {"c4": {"terminal_punctuation": False, "min_sentences": None}},
            ],
        },
    ],
    "template": {"text": "{% for message in messages %}[{{ message.role }}] {{ message.content }}{% endfor %}"},
    "sequences": {"length": 128, "layout": "concat", "whole_documents": False},
}
MATH = {"model": "m", "samples": 3, "temperature": 0.8, "choose": {"by": "verifiable"}}
TALK = {"model": "m", "samples": 2}


def math_records() -> list[dict[str, Any]]:
    """A sum each, in words of its own; the last has nothing to check, the one before an answer that is no number."""
    asked = [f"What is {number} plus {number}? {prose(f'm{number}', 3)}" for number in range(26)]
    records = [
        {"prompt": text, "answer": f"{2 * number:,}", "checker": "number"} for number, text in enumerate(asked[:24])
    ]
    unreadable = {"prompt": asked[24], "answer": "many", "checker": "number"}
    return [*records, unreadable, conversation(asked[25], "It is 50.")]


def conversation(question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], **more}


def talk_records() -> list[dict[str, Any]]:
    """Of many shapes; a copy and one too short are dropped by the run."""
    told = [conversation(f"Tell {number}. {prose(f't{number}', 2)}", prose(f"a{number}", 3)) for number in range(8)]
    call = {"function": {"name": "look", "arguments": {"at": 3}}}
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    long = [
        {"role": "system", "content": "Be kind 8."},
        {"role": "user", "content": f"Look 8. {prose('q', 3)}\n\nShort\n\nEnd 8 {prose('e', 1)}"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": f"Seen 8. {prose('s', 1)}", "name": "look"},
        {"role": "assistant", "content": prose("old", 3)},
    ]
    preferred = {"prompt": f"Which 9? {prose('p', 2)}", "chosen": prose("c", 2), "rejected": prose("r", 2)}
    linked = conversation(f"Linked 10. {prose('l', 2)}", prose("la", 2), link="http://a.example/10")
    same_prompt = conversation(told[0]["messages"][0]["content"], prose("another", 3))
    return [
        *told,
        {"messages": long, "tools": tools},
        preferred,
        linked,
        same_prompt,
        told[1],
        conversation("Hi 1", "Yo"),
    ]


def knows(body: Mapping[str, Any], count: int) -> str | Mapping[str, Any]:
    """Sample 0 of a sum is wrong; sample 1 right where 3 does not divide it; sample 2 where 6 does not."""
    number, sample = number_in(body), body["seed"]
    if not body["messages"][-1]["content"].startswith("What is"):
        return well(body, count)
    if number == 8:
        return "400"
    right = sample > 0 and number % (3 * sample) != 0
    text = f"<think>\nIs it {2 * number}?\n</think>\n\nIt is {2 * number + (0 if right else 1)}."
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if number == 5:
        return {**choice, "finish_reason": "length"}
    return {**choice, "message": {"content": ""}} if number == 7 else choice


def make_run(folder: Path) -> None:
    """Raw data, recipe.yaml without `regenerate`, and its run in `out`; the folder must be the working one."""
    for name, records in (("math", math_records()), ("talk", talk_records())):
        (folder / "raw" / name).mkdir(parents=True)
        lines = [json.dumps(record) + "\n" for record in records]
        (folder / "raw" / name / "a.jsonl").write_text("".join(lines[::2]))
        (folder / "raw" / name / "b.jsonl").write_text("".join(lines[1::2]))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    run_inline(folder / "recipe.yaml", "out")


def recipe_text(math: Mapping[str, Any] | None = None, talk: Mapping[str, Any] | None = None) -> str:
    """The recipe with `regenerate` in one source or both."""
    sources = [
        {**source, **({"regenerate": dict(asked)} if asked else {})}
        for source, asked in zip(RECIPE["sources"], (math, talk), strict=True)
    ]
    return yaml.safe_dump({**RECIPE, "sources": sources}, sort_keys=False)


def recipe(math: Mapping[str, Any] | None = None, talk: Mapping[str, Any] | None = None) -> RecipeFile:
    return load_recipe(recipe_text(math, talk), "recipe.yaml")


def regenerated(file: RecipeFile, **more: Any) -> dict[str, Regenerated]:
    """`regenerate` of the run in `out`."""
    return regenerate(file, Storage("out"), Quiet(), {}, **more)


def answers(source: str) -> list[dict[str, Any]]:
    """The conversations that were written for a source."""
    paths = sorted(Path(f"out/regenerated/{source}/answers").glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def left_out(source: str) -> dict[str, str]:
    """Reasons by document."""
    lines = Path(f"out/regenerated/{source}/left_out.jsonl").read_text().splitlines()
    return {row["document"]: row["reason"] for row in map(json.loads, lines)}


def written(source: str) -> dict[str, bytes]:
    """Every file but the ledger's."""
    folder = Path(f"out/regenerated/{source}")
    paths = [path for path in folder.rglob("*") if path.is_file() and "ledger" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
