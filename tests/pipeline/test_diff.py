"""`tokenmill diff`: against the tables of two runs read whole."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.pipeline.corpus import RECIPE, write_corpus, write_recipe, write_texts
from tests.pipeline.runs import newest, run_inline
from tests.pipeline.test_breakdown import packed_tokens
from tests.pipeline.test_takedown import removed
from tokenmill.pipeline.cli import cli
from tokenmill.pipeline.diff import EXAMPLES
from tokenmill.pipeline.diff_recipes import recipe_differences
from tokenmill.pipeline.takedown import Asked


@pytest.fixture(scope="module")
def other_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small run made again with another bound and vocabulary, a note changed, two notes more."""
    folder = tmp_path_factory.mktemp("other")
    write_corpus(folder)
    notes = folder / "notes" / "notes.jsonl"
    lines = notes.read_text().splitlines()
    lines[3] = lines[3].replace("the", "THE").replace("and", "AND also")
    lines += [json.dumps({"text": f"more than there was before, in a few words: {number}"}) for number in range(2)]
    notes.write_text("\n".join(lines) + "\n")
    text = RECIPE.replace("min_words: 40", "min_words: 200").replace("vocab_size: 512", "vocab_size: 600")
    run_inline(write_recipe(folder, text), folder / "out")
    return folder / "out"


def said(*arguments: str) -> str:
    return CliRunner().invoke(cli, ["diff", *arguments], catch_exceptions=False).stdout


def differences(*runs: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(said(*runs, "--json"))
    return value


def outcomes(run: Path) -> dict[tuple[str, str, int], tuple[str, bytes | None]]:
    """What became of each document, and its content hash, by source, part and row."""
    removals = [row for path in run.glob("ledger/*.parquet") for row in pq.read_table(path).to_pylist()]
    gone = {(row["removed_part"], row["removed_row"]): f"dedup.{row['kind']}" for row in removals}
    packed, found = packed_tokens(run), {}
    for path in run.glob("decisions/*/*.parquet"):
        source, part = path.parent.name, path.name[:16]
        (hashes,) = run.glob(f"signals/hashes/{source}/{part}.*")
        contents = pq.read_table(hashes).column("content_hash").to_pylist()
        for row, reason in enumerate(pq.read_table(path).column("reason").to_pylist()):
            became = reason or gone.get((part, row)) or ("packed" if (part, row) in packed else "lost")
            found[source, part, row] = became, contents[row]
    return found


def test_two_runs(small_run: Path, other_run: Path) -> None:
    value = differences(str(small_run), str(other_run))
    one, two = outcomes(small_run), outcomes(other_run)
    assert "lost" not in {became for became, _ in (*one.values(), *two.values())}
    for source in ("web", "notes", "code"):
        both = [key for key in one.keys() & two.keys() if key[0] == source]
        changed = sum(
            one[key][1] is not None and two[key][1] is not None and one[key][1] != two[key][1] for key in both
        )
        mine = [sum(key[0] == source for key in keys) for keys in (one, two, one.keys() - two, two.keys() - one)]
        expected = {"before": mine[0], "after": mine[1], "same": len(both) - changed, "changed": changed}
        assert value["documents"][source] == {**expected, "removed": mine[2], "added": mine[3]}
    moves = Counter((key[0], one[key][0], two[key][0]) for key in one.keys() & two.keys() if one[key][0] != two[key][0])
    assert {(line["source"], line["from"], line["to"]): line["documents"] for line in value["moved"]} == moves
    assert moves["web", "packed", "gopher_quality.min_words"] > EXAMPLES
    for line in value["moved"]:
        assert len(line["examples"]) == min(EXAMPLES, line["documents"])
        for example in line["examples"]:
            part, row = example["document"].split(":")
            key = (line["source"], part, int(row))
            assert (one[key][0], two[key][0]) == (line["from"], line["to"])
    assert not value["same_tokenizer"]
    keys = {line["key"]: (line["before"], line["after"]) for line in value["recipe"]}
    assert keys["sources.web.filters.gopher_quality.min_words"] == (40, 200)
    assert keys["tokenizer.train.vocab_size"] == (512, 600)
    tokens = {line["component"]: (line["before"], line["after"]) for line in value["tokens"]}
    for run, at in ((small_run, 0), (other_run, 1)):
        for source, sheet in newest(run).value["balance"].items():
            for stratum, count in sheet["tokens"].items():
                assert tokens[f"{source}/{stratum}"][at] == count


def test_changed_and_added_documents_are_told(small_run: Path, other_run: Path) -> None:
    notes = differences(str(small_run), str(other_run))["documents"]["notes"]
    assert notes == {"before": 60, "after": 62, "same": 59, "changed": 1, "removed": 0, "added": 2}
    assert differences(str(other_run), str(small_run))["documents"]["notes"] == {
        **{"before": 62, "after": 60, "same": 59, "changed": 1, "removed": 2, "added": 0}
    }


def test_two_versions_of_one_run(small_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    same = differences(f"{run}@0", str(run))
    assert (same["recipe"], same["moved"], same["same_tokenizer"]) == ([], [], True)
    assert {counts["changed"] + counts["removed"] + counts["added"] for counts in same["documents"].values()} == {0}
    before = outcomes(run)
    removed(run, Asked(domains=("a.example",), reason="asked"))
    pages = pq.read_table(next(run.glob("documents/web/*.parquet"))).column("url").to_pylist()
    assert any("a.example" in (url or "") for url in pages)
    moved = differences(f"{run}@0", str(run))["moved"]
    assert [(line["source"], line["from"], line["to"]) for line in moved] == [("web", "packed", "removed.takedown")]
    assert 30 < moved[0]["documents"] < sum(became == "packed" for (source, *_), (became, _) in before.items())
    assert all("a.example" in example["place"] for example in moved[0]["examples"])


def test_parts_and_sources_of_one_run_alone(small_run: Path, tmp_path: Path) -> None:
    write_texts(tmp_path / "notes" / "others.jsonl", [f"note number {number} of another file" for number in range(9)])
    head, _, tail = RECIPE.partition("  - name: web")
    notes = tail[tail.index("  - name: notes") : tail.index("  - name: code")].partition("    filters:")[0]
    run_inline(write_recipe(tmp_path, f"{head}{notes}sequences: {{length: 64}}"), tmp_path / "out")
    value = differences(str(small_run), str(tmp_path / "out"))
    assert value["documents"]["notes"] == {
        **{"before": 60, "after": 9, "same": 0, "changed": 0, "removed": 60, "added": 9}
    }
    web = value["documents"]["web"]
    assert web["removed"] == web["before"] == sum(source == "web" for source, *_ in outcomes(small_run))
    assert value["moved"] == []
    text = said(str(small_run), str(tmp_path / "out"))
    assert text.count("no part is in both") == 1


def test_for_people(small_run: Path, other_run: Path) -> None:
    text = said(str(small_run), str(other_run))
    assert "  sources.web.filters.gopher_quality.min_words: 40 → 200\n" in text
    assert "their tokenizers differ" in text
    assert "  web: packed → gopher_quality.min_words: " in text
    assert "no part is in both" not in text
    assert "what became of documents: the same" in said(str(small_run), str(small_run))


def test_recipes_are_compared_by_names() -> None:
    before = "{a: 1, sources: [{name: x, filters: [c4, gopher: {min: 1}]}, {name: y}], paths: [p, q]}"
    after = "{b: null, sources: [{name: y}, {name: x, filters: [gopher: {min: 2}, c4]}], paths: [q]}"
    assert recipe_differences(before, before) == []
    assert recipe_differences(before, after) == [
        ("a", 1, "(absent)"),
        ("sources (order)", ["x", "y"], ["y", "x"]),
        ("sources.x.filters (order)", ["c4", "gopher"], ["gopher", "c4"]),
        ("sources.x.filters.gopher.min", 1, 2),
        ("paths", ["p", "q"], ["q"]),
        ("b", "(absent)", None),
    ]
