"""What differs between two versions, as people and programs are told it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenmill.pipeline.diff import Found, Move, Side, recipe_differences, tokens_of
from tokenmill.pipeline.seen import visible


def as_json(before: Side, after: Side, found: Found) -> dict[str, Any]:
    """All of it as plain values."""
    recipe = recipe_differences(before.published.value["recipe"], after.published.value["recipe"])
    return {
        "before": before.name,
        "after": after.name,
        "recipe": [{"key": key, "before": one, "after": two} for key, one, two in recipe],
        "tokenmill": [side.published.value["tokenmill"] for side in (before, after)],
        "same_tokenizer": before.tokenizer == after.tokenizer,
        "documents": {source: vars(counts) for source, counts in sorted(found.documents.items())},
        "tokens": [{"component": name, "before": one, "after": two} for name, one, two in tokens_of(before, after)],
        "moved": [
            {
                **{"source": move[0], "from": move[1], "to": move[2], "documents": number},
                "examples": [
                    {"document": f"{part}:{row}", "place": place} for part, row, place in found.examples[move]
                ],
            }
            for move, number in ordered(found.moves)
        ],
    }


def ordered(moves: Mapping[Move, int]) -> Sequence[tuple[Move, int]]:
    """The most first."""
    return sorted(moves.items(), key=lambda item: (-item[1], item[0]))


def told(before: Side, after: Side, found: Found) -> Iterator[str]:
    """All of it for people, line by line."""
    value = as_json(before, after, found)
    yield f"before  {before.name}\nafter   {after.name}"
    yield "\nrecipe" + ("" if value["recipe"] else ": the same")
    for line in value["recipe"]:
        yield f"  {line['key']}: {_short(line['before'])} → {_short(line['after'])}"
    if before.published.value["tokenmill"] != after.published.value["tokenmill"]:
        yield f"  made by tokenmill {' → '.join(value['tokenmill'])}"
    if not value["same_tokenizer"]:
        yield "  their tokenizers differ: numbers of tokens are not of the same tokens"
    yield "\ndocuments          before        after         same      changed      removed        added"
    for source, counts in value["documents"].items():
        yield f"  {source:<12}" + "".join(f" {number:>12,}" for number in counts.values())
        if not counts["same"] + counts["changed"] and counts["removed"] and counts["added"]:
            yield "    no part is in both: other raw files, or another `part_bytes`, and so other identities"
    yield "\ntokens                             before            after       difference"
    for line in value["tokens"]:
        one, two = line["before"], line["after"]
        yield f"  {line['component']:<22} {one:>16,} {two:>16,} {two - one:>+16,}"
    yield "\nwhat became of documents" + ("" if value["moved"] else ": the same")
    for line in value["moved"]:
        yield f"  {line['source']}: {line['from']} → {line['to']}: {line['documents']:,}"
        yield from (f"    {each['document']}  {visible(each['place'], 200)}" for each in line["examples"])


def _short(value: Any) -> str:
    return visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 120)
