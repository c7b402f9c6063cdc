"""The survivor policy of a recipe: of equal documents the one stays that the policy prefers."""

import json
from pathlib import Path

import pytest

from tests.pipeline.corpus import prose, write_recipe
from tests.pipeline.runs import newest, run_inline
from tokenmill.pipeline.prepare import prepare
from tokenmill.pipeline.recipe import Dedup
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import read_table

RECIPE = """
name: survivors
output: unused
tokenizer: {train: {vocab_size: 300, sample_bytes: 1MiB}}
sources:
  - name: old
    reader: jsonl
    paths: ["{folder}/old.jsonl"]
    columns: {date: when}
    filters: [{gopher_repetition: {max_duplicate_line_fraction: null, max_duplicate_line_character_fraction: null}}]
  - name: young
    reader: jsonl
    paths: ["{folder}/young.jsonl"]
    columns: {date: when}
    priority: 1
dedup: {survivor: POLICY}
sequences: {length: 64}
"""
CHAT = """
name: survivors
output: unused
tokenizer: {train: {vocab_size: 300, sample_bytes: 1MiB}}
template: {text: "{% for message in messages %}{{ message.content }}{% endfor %}"}
sources:
  - {name: chat, reader: chat, paths: ["{folder}/chat.jsonl"], filters: [chat]}
dedup: {survivor: [{quality: chat.turns}]}
sequences: {length: 64, layout: concat}
"""
TEXT = prose("the same", 12)
#: Date and text: all near duplicates of each other; one has a line thrice.
DOCUMENTS = {
    "old": [
        ("2020-01-01", f"{TEXT}\nThe end is near."),
        ("2024-05-01T00:00:00+05:00", TEXT),
        (None, f"{TEXT}\nx\nx\nx"),
    ],
    "young": [("2024-04-30T20:00:00Z", f"{TEXT}\nThe end."), ("yesterday", f"{TEXT}\nThe end is nearer than that.")],
}


def survivors(folder: Path, policy: str) -> list[tuple[str, int]]:
    """What is not in the ledger, as source and place in it."""
    for name, documents in DOCUMENTS.items():
        lines = [json.dumps({"text": text} | ({"when": date} if date else {})) + "\n" for date, text in documents]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    output = folder / "out"
    run_inline(write_recipe(folder, RECIPE.replace("POLICY", policy)), output)
    storage = Storage(str(output))
    tasks = read_table(storage, newest(output).value["tasks"]).to_pylist()
    source_of = {row["task"]: row["source"] for row in tasks if row["step"] == "ingest"}
    paths = [out["path"] for row in tasks for out in json.loads(row["outputs"]) if out["name"].startswith("ledger/")]
    removed = {
        (source_of[row["removed_part"]], row["removed_row"])
        for path in paths
        for row in read_table(storage, path).to_pylist()
    }
    return [(name, row) for name in DOCUMENTS for row in range(len(DOCUMENTS[name])) if (name, row) not in removed]


@pytest.mark.parametrize(
    ("policy", "survivor"),
    [
        ("[longest]", ("young", 1)),
        ("[priority, newest]", ("young", 0)),
        ("[newest, longest]", ("young", 0)),  # 20:00 UTC, an hour after 00:00+05:00
        ("[{quality: gopher_repetition.duplicate_line_fraction}, longest]", ("old", 2)),
        ("[{quality: gopher_repetition.characters}, newest]", ("old", 0)),  # who has no signal comes last
    ],
)
def test_the_policy_names_the_survivor(tmp_path: Path, policy: str, survivor: tuple[str, int]) -> None:
    assert survivors(tmp_path, policy) == [survivor]


def test_a_signal_of_conversations_names_the_survivor(tmp_path: Path) -> None:
    said = ["What is a token?", "A piece.", "And a mask?", "One that hides."]
    roles = ["user", "assistant"] * 2
    several = [[said[0], "\n\n".join(said[1:])], said]  # the same text, in two turns and in four
    lines = [
        json.dumps({"messages": [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]})
        for turns in several
    ]
    (tmp_path / "chat.jsonl").write_text("\n".join(lines))
    recipe = write_recipe(tmp_path, CHAT)
    run_inline(recipe, tmp_path / "out")
    storage = Storage(str(tmp_path / "out"))
    tasks = read_table(storage, newest(tmp_path / "out").value["tasks"]).to_pylist()
    paths = [out["path"] for row in tasks for out in json.loads(row["outputs"]) if out["name"].startswith("ledger/")]
    assert [row["removed_row"] for path in paths for row in read_table(storage, path).to_pylist()] == [0]


def test_without_a_policy_identity_decides(tmp_path: Path) -> None:
    assert len(survivors(tmp_path, "[]")) == 1


def test_a_signal_is_kept_as_its_name() -> None:
    dedup = Dedup(survivor=["priority", {"quality": "classifier.edu.score"}, "newest"])
    assert dedup.survivor == ("priority", "classifier.edu.score", "newest")
    assert Dedup.model_validate(dedup.model_dump()) == dedup
    assert Dedup().survivor == ("priority", "longest")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("[longst]", "no term 'longst': did you mean 'longest'"),
        ("longest", "give a list"),
        ("[longest, longest]", "longest stands twice"),
        ("[{quality: score}]", "`quality` names a signal as group.signal, such as classifier.edu.score, not 'score'"),
        ("[{quality: classifier.edu.score}]", "no source measures the group 'classifier.edu'"),
        ("[{quality: gopher_repetition.character}]", "gopher_repetition has no number 'character'; it has characters"),
        ("[{quality: hashes.content_hash}]", "hashes has no number 'content_hash'; it has text_bytes"),
    ],
)
def test_mistakes_are_found_before_any_work(tmp_path: Path, policy: str, message: str) -> None:
    for name in DOCUMENTS:
        (tmp_path / f"{name}.jsonl").write_text('{"text": "x"}\n')
    recipe = write_recipe(tmp_path, RECIPE.replace("POLICY", policy))
    with pytest.raises(RecipeError, match=message) as error:
        prepare(load_recipe(recipe.read_text(), "r.yaml"), Storage(str(tmp_path / "out")))
    assert str(error.value).startswith("r.yaml:16: dedup.survivor")
