"""`dedup: {of: prompt}` and `of: answer`: conversations are duplicates by what one side says, exactly or nearly."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.chat.test_pack import TEMPLATE
from tests.pipeline.corpus import prose, write_recipe
from tests.pipeline.runs import run_inline
from tokenmill.manifests.schemas import TURNS
from tokenmill.pipeline import checks
from tokenmill.pipeline.compared import compared_texts
from tokenmill.pipeline.prepare import prepare
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.storage import Storage

RECIPE = """\
name: asked
output: unused
tokenizer: {train: {vocab_size: 500, sample_bytes: 1MiB, control_tokens: ["<|im_start|>", "<|im_end|>"]}}
template: {text: "TEMPLATE"}
sources:
  - name: sft
    reader: chat
    paths: ["{folder}/sft/*.jsonl"]
    filters:
      - c4: {terminal_punctuation: false, min_sentences: null}
dedup: {of: prompt, verify: signature}
sequences: {length: 256, layout: concat}
""".replace("TEMPLATE", TEMPLATE.replace("\n", "\\n").replace('"', '\\"'))
#: Of each record the numbers of its question and of its answer; a line of C4's kind is in front of some.
SAID = [(0, 0), (1, 1), (0, 2), (3, 1), (4, 4), (5, 5), (6, 6), (7, 4)]


def near(text: str) -> str:
    return text.rsplit(" ", 1)[0] + " again."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    (folder / "sft").mkdir()
    pairs = [(prose(f"ask {asked}", 9), prose(f"say {said}", 3 + n)) for n, (asked, said) in enumerate(SAID)]
    pairs = [(question, prose(f"say {said}", 9)) for (question, _), (_, said) in zip(pairs, SAID, strict=True)]
    pairs.append((near(pairs[5][0]), prose("another", 12)))
    pairs.append((prose("another", 8), near(pairs[6][1])))
    pairs.append(("Menu\n" + pairs[4][0], prose("last", 4)))  # C4 takes the line
    lines = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in pairs]
    (folder / "sft" / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def removed(output: Path) -> dict[str, set[frozenset[int]]]:
    """Pairs of rows, removed and keeper, by kind."""
    found: dict[str, set[frozenset[int]]] = {}
    for path in output.glob("ledger/**/*.parquet"):
        for row in pq.read_table(path).to_pylist():
            found.setdefault(row["kind"], set()).add(frozenset((row["removed_row"], row["keeper_row"])))
    return found


@pytest.mark.parametrize("verify", ["signature", "text"])
@pytest.mark.parametrize(
    ("of", "exact", "nearly"),
    [
        ("prompt", {frozenset((0, 2)), frozenset((4, 10))}, {frozenset((5, 8))}),
        ("answer", {frozenset((1, 3)), frozenset((4, 7))}, {frozenset((6, 9))}),
    ],
)
def test_one_of_each_is_kept(
    folder: Path, tmp_path: Path, of: str, verify: str, exact: set[frozenset[int]], nearly: set[frozenset[int]]
):
    recipe = write_recipe(folder, RECIPE.replace("of: prompt, verify: signature", f"of: {of}, verify: {verify}"))
    published, _ = run_inline(recipe, tmp_path / "out")
    assert removed(tmp_path / "out") == {"exact": exact, "near": nearly}
    assert all(not wrong for _, wrong in checks.recount(Storage(str(tmp_path / "out")), published))
    # the whole text still says what a document is
    (hashes,) = (tmp_path / "out").glob("signals/hashes/sft/*.parquet")
    assert len(set(pq.read_table(hashes).column("content_hash").to_pylist())) == 11


def test_against_an_earlier_run_that_was_made_alike(folder: Path, tmp_path: Path):
    run_inline(write_recipe(folder, RECIPE), tmp_path / "first")
    for verify in ("signature", "text"):
        changed = RECIPE.replace("verify: signature", f'verify: {verify}, against: ["{tmp_path / "first"}"]')
        published, _ = run_inline(write_recipe(folder, changed), tmp_path / verify)
        assert published.value["balance"]["sft"]["steps"]["deduplicate"]["out"][0] == 0
    other = changed.replace("of: prompt", "of: answer").replace("{folder}", str(folder))
    with pytest.raises(RecipeError, match="what is compared is prompt there and answer here"):
        prepare(load_recipe(other, "r.yaml"), Storage(str(tmp_path / "third")))


def test_pages_have_no_prompt():
    text = RECIPE.replace("reader: chat", "reader: jsonl").replace(", layout: concat", "")
    text = "".join(line + "\n" for line in text.splitlines() if not line.startswith("template"))
    with pytest.raises(RecipeError, match=r"dedup\.of is prompt, which only conversations have"):
        load_recipe(text, "r.yaml")


def test_what_is_compared():
    def turn(role: str, start: int, end: int) -> dict[str, Any]:
        return {"role": role, "start": start, "end": end, "branch": None, "fields": None}

    texts = pa.array(["abcdef", "xyz", None], pa.large_string())
    said = [[turn("user", 0, 2), turn("assistant", 2, 4), turn("user", 4, 6)], [turn("assistant", 0, 3)], None]
    rows = [{"turns": each, "tools": None, "kind": "conversation", "answer": None, "checker": None} for each in said]
    turns = pa.RecordBatch.from_pylist(rows, schema=TURNS)
    assert compared_texts(texts, turns, "prompt").to_pylist() == ["ab\n\nef", "xyz", None]
    assert compared_texts(texts, turns, "answer").to_pylist() == ["cd", "xyz", None]
    assert compared_texts(texts, None, "text") is texts
