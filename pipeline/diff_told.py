"""What differs between two versions, as people and programs are told it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenmill.pipeline.diff import Found, Move, Side
from tokenmill.pipeline.diff_recipes import recipe_differences, roles_of, template_differences, tokens_of
from tokenmill.pipeline.seen import visible


def as_json(before: Side, after: Side, found: Found) -> dict[str, Any]:
    """All of it as plain values."""
    recipe = recipe_differences(before.published.value["recipe"], after.published.value["recipe"])
    return {
        "before": before.name,
        "after": after.name,
        "versions": [{"hash": side.published.hash, "mixture": side.published.mixture_hash} for side in (before, after)],
        "recipe": [{"key": key, "before": one, "after": two} for key, one, two in recipe],
        "tokenmill": [side.published.value["tokenmill"] for side in (before, after)],
        "same_tokenizer": before.tokenizer == after.tokenizer,
        "template": [{"key": key, "before": a, "after": b} for key, a, b in template_differences(before, after)],
        "packed": {source: vars(counts) for source, counts in sorted(found.packed.items())},
        "roles": [
            {"source": source, "role": role, "before": one, "after": two}
            for source, role, one, two in roles_of(before, after)
        ],
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
    yield from (
        f"{title:<7} {side.name}  version {side.published.hash}, mixture {side.published.mixture_hash or '(none)'}"
        for title, side in (("before", before), ("after", after))
    )
    yield "\nrecipe" + ("" if value["recipe"] else ": the same")
    for line in value["recipe"]:
        yield f"  {line['key']}: {_short(line['before'])} → {_short(line['after'])}"
    if before.published.value["tokenmill"] != after.published.value["tokenmill"]:
        yield f"  made by tokenmill {' → '.join(value['tokenmill'])}"
    if not value["same_tokenizer"]:
        yield "  their tokenizers differ: numbers of tokens are not of the same tokens"
    if value["template"]:
        yield "\nchat template"
    for line in value["template"]:
        yield f"  {line['key']}: " + " → ".join(map(_short, _parted(line["before"], line["after"])))
    yield "\ndocuments          before        after         same      changed      removed        added"
    for source, counts in value["documents"].items():
        yield f"  {source:<12}" + "".join(f" {number:>12,}" for number in counts.values())
        if not counts["same"] + counts["changed"] and counts["removed"] and counts["added"]:
            yield "    no part is in both: other raw files, or another `part_bytes`, and so other identities"
    yield "\npacked             before        after         same      changed      dropped        added"
    for source, counts in value["packed"].items():
        yield f"  {source:<12}" + "".join(f" {number:>12,}" for number in counts.values())
    yield "\ntokens                             before            after       difference"
    for line in value["tokens"]:
        one, two = line["before"], line["after"]
        yield f"  {line['component']:<22} {one:>16,} {two:>16,} {two - one:>+16,}"
    if value["roles"]:
        yield "\ntokens by role                     before            after       difference"
    for line in value["roles"]:
        one, two = line["before"], line["after"]
        yield f"  {line['source'] + ' ' + line['role']:<22} {one:>16,} {two:>16,} {two - one:>+16,}"
    yield "\nwhat became of documents" + ("" if value["moved"] else ": the same")
    for line in value["moved"]:
        yield f"  {line['source']}: {line['from']} → {line['to']}: {line['documents']:,}"
        yield from (f"    {each['document']}  {visible(each['place'], 200)}" for each in line["examples"])


def _parted(one: Any, two: Any) -> tuple[Any, Any]:
    """Of two texts the lines from the first that differs on; other values whole."""
    if not (isinstance(one, str) and isinstance(two, str)):
        return one, two
    lines = one.splitlines(), two.splitlines()
    first = next((at for at, (a, b) in enumerate(zip(*lines, strict=False)) if a != b), min(map(len, lines)))
    told = ["\n".join(some[first:]) for some in lines]
    return f"line {first + 1} {told[0]}", told[1]


def _short(value: Any) -> str:
    return visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 120)
