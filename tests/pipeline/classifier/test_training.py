"""Training and evaluating classifiers: the same bytes, no copy on both sides, figures that add up, mistakes named."""

import gzip
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.pipeline.corpus import advert, prose
from tests.pipeline.runs import tokenmill
from tokenmill.filters.classifier import training_line
from tokenmill.pipeline.classifier.examples import drawn, example_lines, find_examples, line_key, on_both_sides
from tokenmill.pipeline.classifier.figures import figures
from tokenmill.pipeline.classifier.training import TrainParams, evaluate, train
from tokenmill.pipeline.progress import Quiet
from tokenmill.pipeline.storage import content_hash, open_url

SMALL = {"dim": 8, "buckets": 500}


def write_lines(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": text, "id": number}) + "\n" for number, text in enumerate(texts)))
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """good.jsonl and bad.jsonl: 120 and 80 texts, two in both, some twice."""
    folder = tmp_path_factory.mktemp("examples")
    good, bad = [prose(f"g {n}", 4) for n in range(120)], [advert(n) for n in range(80)]
    write_lines(folder / "good.jsonl", [*good, *good[:10], bad[3], bad[4].replace("\n", "\n\n ")])
    write_lines(folder / "bad.jsonl", [*bad, *bad[20:24], "  \n"])
    return folder


def trained(folder: Path, output: Path, **params: Any) -> dict[str, Any]:
    sides = [[str(folder / "good.jsonl")], [str(folder / "bad.jsonl")]]
    return train(*sides, str(output), TrainParams(**{**SMALL, **params}), "text", Quiet())


def test_the_same_inputs_give_the_same_bytes_and_another_seed_another_split(folder: Path, tmp_path: Path):
    first = trained(folder, tmp_path / "a.bin", held_out=0.2)
    second = trained(folder, tmp_path / "b.bin", held_out=0.2)
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes()
    assert first["model"]["hash"] == second["model"]["hash"]
    with open_url(str(tmp_path / "a.bin")) as file:
        assert content_hash(file)[1] == first["model"]["hash"]
    assert json.loads((tmp_path / "a.bin.json").read_text()) == first
    other = trained(folder, tmp_path / "c.bin", held_out=0.2, seed=1)
    assert other["model"]["hash"] != first["model"]["hash"]
    keys = np.array([line_key(training_line(prose(f"g {n}", 4)).encode()) for n in range(120)], np.uint64)
    assert drawn(keys, 0, 0.2).tolist() != drawn(keys, 1, 0.2).tolist()
    assert list(tmp_path.glob("tmp/*")) == []


def test_the_card_says_what_it_was_made_of(folder: Path, tmp_path: Path):
    card = trained(folder, tmp_path / "m.bin", held_out=0.25, seed=5)
    counts = card["examples"]
    assert counts["on both sides"] == {"positive": 2, "negative": 2}
    assert counts["without text"] == {"positive": 0, "negative": 1}
    for kind, total in (("positive", 130), ("negative", 82)):
        assert counts["trained on"][kind] + counts["held out"][kind] == total
        assert counts["held out"][kind] == card["held_out"]["labels"][kind]["examples"]
        assert 0.1 * total < counts["held out"][kind] < 0.4 * total
    (positive,) = card["inputs"]["positive"]
    with open_url(str(folder / "good.jsonl")) as file:
        assert (positive["bytes"], positive["hash"]) == content_hash(file)
    assert card["params"] == {
        "seed": 5,
        "epochs": 5,
        "dim": 8,
        "word_ngrams": 2,
        "learning_rate": 0.5,
        "buckets": 500,
        "min_count": 1,
        "held_out": 0.25,
    }
    assert card["trained_with"] == "fasttext-wheel 0.9.2"
    assert card["held_out"]["labels"]["positive"]["f1"] > 0.9


def test_nothing_held_out_has_no_figures(folder: Path, tmp_path: Path):
    card = trained(folder, tmp_path / "m.bin", held_out=0)
    assert card["examples"]["held out"] == {"positive": 0, "negative": 0}
    assert card["held_out"]["labels"]["positive"] == {"examples": 0, "precision": None, "recall": None, "f1": None}


def test_evaluation_is_of_what_is_on_one_side_alone(folder: Path, tmp_path: Path):
    trained(folder, tmp_path / "m.bin")
    good, bad = [prose(f"new {n}", 3) for n in range(50)], [advert(500 + n) for n in range(40)]
    sides = write_lines(tmp_path / "p.jsonl", [*good, bad[0], ""]), write_lines(tmp_path / "n.jsonl", [*bad, good[0]])
    found = evaluate(str(tmp_path / "m.bin"), "positive", [sides[0]], [sides[1]], "text", Quiet())
    assert found["examples"] == {
        "evaluated": {"positive": 49, "negative": 39},
        "on both sides": {"positive": 2, "negative": 2},
        "without text": {"positive": 1, "negative": 0},
    }
    assert found["evaluated"]["labels"]["positive"]["f1"] > 0.9
    swapped = evaluate(str(tmp_path / "m.bin"), "negative", [sides[1]], [sides[0]], "text", Quiet())
    # the score of the other label is the rest to 1, as float32
    for row in ("precision", "recall", "f1"):
        assert swapped["evaluated"]["labels"]["positive"][row] == found["evaluated"]["labels"]["negative"][row]


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.05, 0.3, 0.5, 0.9, 1.0]), st.booleans()), max_size=30))
def test_figures_are_those_counted_by_hand(rows: list[tuple[float, bool]]):
    found = figures(np.array([score for score, _ in rows], np.float64), np.array([true for _, true in rows], np.bool_))
    for row in found["thresholds"]:
        told = [true for score, true in rows if score >= row["min_score"]]
        wanted = sum(true for _, true in rows)
        assert row["precision"] == (sum(told) / len(told) if told else None)
        assert row["recall"] == (sum(told) / wanted if wanted else None)
        assert row["kept"] == (len(told) / len(rows) if rows else None)
    at_half = next(row for row in found["thresholds"] if row["min_score"] == 0.5)
    positive, negative = found["labels"]["positive"], found["labels"]["negative"]
    assert positive == {name: at_half[name] for name in positive}
    assert positive["examples"] + negative["examples"] == len(rows)
    for label in (positive, negative):
        if label["precision"] and label["recall"]:
            p, r = label["precision"], label["recall"]
            assert label["f1"] == pytest.approx(2 * p * r / (p + r))


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=20), st.integers(0, 99))
def test_copies_fall_together_and_texts_of_both_sides_are_found(rows: list[tuple[int, bool]], seed: int):
    keys = np.array([line_key(str(text).encode()) for text, _ in rows], np.uint64)
    positive = np.array([side for _, side in rows], np.bool_)
    assert on_both_sides(keys, positive).tolist() == [(t, not side) in rows for t, side in rows]
    held = drawn(keys, seed, 0.5)
    assert len(set(zip([text for text, _ in rows], held.tolist(), strict=True))) == len({text for text, _ in rows})
    assert not drawn(keys, seed, 0).any()


TEXTS = [prose(n, 2) for n in range(30)] + ["Ü 中 \ud800 x\0y", " ", "last"]
LINES = [training_line(text.replace("\ud800", "\ufffd").replace("\0", "")) for text in TEXTS if text != " "]


def texts_file(path: Path) -> str:
    """TEXTS in the format that the name says."""
    if ".parquet" in path.name:
        texts = [text.replace("\ud800", "\ufffd") for text in TEXTS]
        pq.write_table(pa.table({"text": [*texts, None]}), path)
        return str(path)
    if ".txt" in path.name.lower():
        data = "\n".join(text.replace("\ud800", "\ufffd").replace("\n", " ") for text in TEXTS).encode()
    else:
        data = "".join(json.dumps({"text": text}) + "\n\n" for text in TEXTS).encode()
    compress = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
    path.write_bytes(compress(data))
    return str(path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json.zst", "a.parquet", "a.txt", "a.txt.gz", "A.TXT.zst"])
def test_every_format_gives_the_same_lines(tmp_path: Path, name: str):
    skipped: Counter[str] = Counter()
    files = find_examples([texts_file(tmp_path / name)])
    assert list(example_lines(files, "text", "positive", Quiet(), skipped)) == LINES
    assert skipped["positive"] == {"a.parquet": 2}.get(name, 0 if "txt" in name.lower() else 1)


def test_patterns_name_files_each_once_in_order(tmp_path: Path):
    for name in ("b/2.jsonl", "b/1.jsonl", "b/c/3.jsonl", "b/4.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    root = str(tmp_path)

    def names(*patterns: str) -> list[str]:
        return [file.url.removeprefix(f"{root}/") for file in find_examples([f"{root}/{item}" for item in patterns])]

    assert names("b/*.jsonl", "b/1.jsonl") == ["b/1.jsonl", "b/2.jsonl"]
    assert names("**/*.jsonl") == ["b/1.jsonl", "b/2.jsonl", "b/c/3.jsonl"]
    assert names("?/?.txt") == ["b/4.txt"]
    for wrong, message in (("b/*.zip", "matches no file"), ("b/none.txt", "no file '.*none.txt'"), ("b", "no file")):
        with pytest.raises(ValueError, match=message):
            names(wrong)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.jsonl", b'{"text": "a"}\n{not json\n', r"x\.jsonl: the record at 14 cannot be read \(not_json\)"),
        ("x.jsonl", b'{"text": 3}\n', r"the record at 0 cannot be read \(text_not_a_string\)"),
        ("x.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 99, mtime=0)[:-20], "truncated_gzip"),
        ("x.txt.gz", gzip.compress(b"words\n" * 99, mtime=0)[:-20], "truncated_gzip"),
        ("x.txt", b"fine\n\xff\xfe bad\n", r"the record at 5 cannot be read \(invalid_utf8\)"),
        ("x.parquet", b"PAR1 or not", "not_parquet"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes, message: str):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        list(example_lines(find_examples([str(tmp_path / name)]), "text", "positive", Quiet(), Counter()))


def test_one_kind_of_examples_is_not_enough(folder: Path, tmp_path: Path):
    (tmp_path / "none.txt").write_text("\n \n")
    good, none = str(folder / "good.jsonl"), str(tmp_path / "none.txt")
    trained(folder, tmp_path / "other.bin")
    for sides, message in (
        (([good], [none]), r"no negative example is left in 1 files, .*none\.txt first: 0 .*, 0 on both sides"),
        (([none], [good]), r"no positive example is left in 1 files, .*none\.txt first: 0 .*, 0 on both sides"),
        (([good], [good]), r"no positive example is left in 1 files, .*good\.jsonl first: 0 .*, 132 on both sides"),
    ):
        with pytest.raises(ValueError, match=message):
            train(*sides, str(tmp_path / "m.bin"), TrainParams(**SMALL), "text", Quiet())
        with pytest.raises(ValueError, match=message):
            evaluate(str(tmp_path / "other.bin"), "positive", *sides, "text", Quiet())
    assert not (tmp_path / "m.bin").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs is 0; give 1 or more"),
        ({"held_out": 1.0}, "held_out is 1.0"),
        ({"learning_rate": 0.0}, "learning_rate 0.0"),
        ({"seed": -1}, "seed -1"),
        ({"buckets": 0}, "buckets is 0; runs of 2 words need at least 1"),
    ],
)
def test_parameters_are_checked(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        TrainParams(**changes)
    TrainParams(buckets=0, word_ngrams=1)


def test_without_the_package_the_extra_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "fasttext", None)
    with pytest.raises(ValueError, match=r"fasttext is not installed: pip install 'tokenmill\[classifier\]'"):
        trained(folder, tmp_path / "m.bin")


def test_the_commands(folder: Path, tmp_path: Path):
    sides = ["--positive", str(folder / "good.jsonl"), "--negative", str(folder / "b*.jsonl")]
    model = str(tmp_path / "m.bin")
    said = tokenmill("classifier", "train", *sides, "--output", model, "--dim", "8", "--buckets", "500")
    for words in (
        "trained on",
        "on both sides",
        "precision",
        "recall",
        "F1",
        "what a min_score keeps",
        f"model {model}",
    ):
        assert words in said
    card = json.loads((tmp_path / "m.bin.json").read_text())
    assert card["model"]["hash"] in said
    assert card["model"]["hash"] == trained(folder, tmp_path / "again.bin")["model"]["hash"]
    shown = json.loads(tokenmill("classifier", "evaluate", model, *sides, "--json", "--quiet"))
    assert shown["model"]["hash"] == card["model"]["hash"]
    assert shown["examples"]["evaluated"] == {"positive": 130, "negative": 82}
    wrong = tokenmill("classifier", "evaluate", model, *sides, "--label", "hq", check=False)
    assert "tokenmill: no label 'hq' in this model; it has positive, negative" in wrong
    assert "Traceback" not in wrong
    missing = tokenmill("classifier", "evaluate", f"{model}x", *sides, check=False)
    assert "m.binx" in missing
    assert "Traceback" not in missing
