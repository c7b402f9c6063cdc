import hashlib
import io
import lzma
import math
import os
import subprocess
import sys
import unicodedata
from decimal import Context, Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tokenmill.filters import language, softmax
from tokenmill.filters.language import (
    MAX_PREFIX_BYTES,
    LanguageBounds,
    LanguageModel,
    language_signals,
    language_violations,
)
from tokenmill.manifests.schemas import LANGUAGE
from tokenmill.pipeline import language_model
from tokenmill.pipeline.language_model import load_py3langid

ENGLISH = "The quick brown fox jumps over the lazy dog and runs away into the forest."
GERMAN = "Der schnelle braune Fuchs springt über den faulen Hund und läuft in den Wald."


@cache
def peer() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def identify(*texts: str | None, **options: int) -> list[dict[str, Any]]:
    batch = language_signals(pa.array(texts, pa.large_string()), load_py3langid(), **options)
    assert batch.schema == LANGUAGE
    rows: list[dict[str, Any]] = batch.to_pylist()
    return rows


def labels(row: dict[str, Any]) -> list[str]:
    return [row["language"], row["second_language"], row["third_language"]]


def scores(row: dict[str, Any]) -> list[float]:
    return [row["language_score"], row["second_language_score"], row["third_language_score"]]


def agrees_with_peer(texts: list[str]) -> None:
    """Same best label and scores within 1e-4; the same second and third where float32 tells theirs from noise."""
    rows = identify(*texts)
    expected = [peer().rank(text)[:3] for text in texts]
    np.testing.assert_allclose(
        [scores(row) for row in rows], [[s for _, s in ranked] for ranked in expected], atol=1e-4
    )
    told = [max(1, sum(score >= 1e-4 for _, score in ranked)) for ranked in expected]
    ours = [labels(row)[:count] for row, count in zip(rows, told, strict=True)]
    assert ours == [[label for label, _ in ranked[:count]] for ranked, count in zip(expected, told, strict=True)]


def test_text_in_some_languages() -> None:
    rows = identify(ENGLISH, GERMAN, None, "", "\x00", "Быстрая лиса прыгает через собаку.", "敏捷的狐狸跳过了懒狗。")
    assert [row["language"] for row in rows] == ["en", "de", None, None, None, "ru", "zh"]
    assert rows[2] == dict.fromkeys(LANGUAGE.names)
    assert labels(rows[3]) == labels(rows[4]) == [None] * 3
    assert scores(rows[3]) == scores(rows[4]) == [0.0] * 3
    assert rows[0]["language_score"] > 0.9


def test_as_py3langid_on_odd_texts() -> None:
    agrees_with_peer(
        [
            ENGLISH.upper(),
            unicodedata.normalize("NFD", GERMAN),
            "Добар дан, како сте данас?",  # sr: two columns, one label
            "Dobar dan, kako ste danas? Gde je železnička stanica?",
            ENGLISH + GERMAN,
            "a a a a a a a a",
            "1 2 3 hello",
        ]
    )


@pytest.mark.real_data
def test_as_py3langid_on_sentences_of_75_languages(real_data: Path) -> None:
    files = sorted((real_data / "lang" / "lingua" / "sentences").glob("*.txt"))
    assert len(files) == 75
    by_file = [file.read_text().splitlines()[:20] for file in files]
    agrees_with_peer([sentence for found in by_file for sentence in found])
    agrees_with_peer(["\n".join(found) for found in by_file if len("\n".join(found).encode()) <= 4096])


def test_only_a_prefix_is_read_cut_at_a_character() -> None:
    text = "ä" * 10 + GERMAN + ENGLISH * 200
    for size in (1, 2, 3, 20, 21, 100, 4096):
        prefix = text.encode()[:size].decode(errors="ignore")
        assert identify(text, prefix_bytes=size) == identify(prefix, prefix_bytes=MAX_PREFIX_BYTES)
    assert identify(text) == identify(text, prefix_bytes=4096)


@pytest.mark.parametrize("size", [0, -1, MAX_PREFIX_BYTES + 1])
def test_prefix_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"prefix_bytes is {size}"):
        identify(ENGLISH, prefix_bytes=size)


def test_the_longest_and_most_repetitive_prefix() -> None:
    assert len(unicodedata.normalize("NFC", "\U0001d160").encode()) == 3 * len("\U0001d160".encode())
    rows = identify("\U0001d160" * MAX_PREFIX_BYTES, "e" * MAX_PREFIX_BYTES, prefix_bytes=MAX_PREFIX_BYTES)
    assert [math.isfinite(score) for row in rows for score in scores(row)] == [True] * 6


def toy() -> LanguageModel:
    """Each of the bytes a, b, c is a feature; columns x, y, x (an alias) and z."""
    next_state = np.zeros(256, np.uint32)
    next_state[[ord(letter) for letter in "abc"]] = [1, 2, 3]
    return LanguageModel(
        next_state=next_state,
        state_row=np.zeros(4, np.uint16),
        state_feature=np.array([-1, 0, 1, 2], np.int32),
        table=np.array([[-2000, -3000, -4000, -2000], [-1999, -2000, -2000, -4000], [-3000] * 4], np.int16),
        prior=np.array([0.5, 0.25, 0.0, 0.0]),
        labels=("x", "y", "x", "z"),
        model_hash="",
    )


@pytest.mark.parametrize("text", ["a", "bb", "ccab", "abababab", "a b c"])
def test_a_model_small_enough_to_score_by_hand(text: str) -> None:
    model = toy()
    logs = [math.log1p(text.count(letter)) for letter in "abc"]
    raw = [
        (model.prior[c] + sum(log * model.table[f, c] / 512 for f, log in enumerate(logs))) / math.sqrt(len(text))
        for c in range(4)
    ]
    shares = [math.exp(value) / sum(map(math.exp, raw)) for value in raw]
    ranked = sorted({"x": shares[0] + shares[2], "y": shares[1], "z": shares[3]}.items(), key=lambda pair: -pair[1])
    row = language_signals(pa.array([text], pa.large_string()), model).to_pylist()[0]
    assert labels(row) == [label for label, _ in ranked]
    assert scores(row) == pytest.approx([share for _, share in ranked], rel=1e-6)


def test_equal_scores_are_in_the_order_of_the_columns() -> None:
    model = toy()
    model.prior[:] = 0
    row = language_signals(pa.array(["c"], pa.large_string()), model).to_pylist()[0]
    assert labels(row) == ["x", "y", "z"]
    assert scores(row) == [0.5, 0.25, 0.25]


def test_log1p_is_rounded_from_exact_arithmetic() -> None:
    context = Context(prec=40)
    expected = [float(round(context.multiply(context.ln(Decimal(n + 1)), Decimal(2**24)))) for n in range(2000)]
    assert language._log1p_units(2000).tolist() == expected


def test_exp_is_within_two_units_in_the_last_place() -> None:
    for x in [0.0, -1e-300, -0.34657359, -0.34657360, -1.0, -37.5, -699.99, *(-np.geomspace(1e-6, 690, 2000)).tolist()]:
        value = softmax.exp(x, softmax.POWERS)
        assert abs(value - math.exp(x)) <= 2 * math.ulp(math.exp(x))
    assert softmax.exp(-701.0, softmax.POWERS) == 0.0


SCORE_SAMPLE = f"""
import hashlib
import pyarrow as pa
from tokenmill.filters.language import language_signals
from tokenmill.pipeline import language_model
from tokenmill.pipeline.language_model import load_py3langid
texts = [{ENGLISH!r}, {GERMAN!r}, {ENGLISH + GERMAN!r}, "x"]
batch = language_signals(pa.array(texts, pa.large_string()), load_py3langid())
print(hashlib.sha256(repr(batch.to_pylist()).encode()).hexdigest())
"""


def test_scores_are_the_same_bits_on_the_plainest_processor(tmp_path: Path) -> None:
    rows = identify(ENGLISH, GERMAN, ENGLISH + GERMAN, "x")
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CACHE_DIR": str(tmp_path), "OPENBLAS_CORETYPE": "Nehalem"}
    found = subprocess.run(
        [sys.executable, "-c", SCORE_SAMPLE], env={**os.environ, **plain}, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == hashlib.sha256(repr(rows).encode()).hexdigest()


def test_model() -> None:
    model = load_py3langid()
    assert load_py3langid() is model
    assert len(model.model_hash) == 32
    assert model.table.shape == (len(np.unique(model.state_feature)) - 1, len(model.labels))


@pytest.mark.parametrize("kind", ["truncated", "cut short", "empty", "another", "no archive", "other arrays"])
def test_a_model_file_that_is_none_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (language_model.MODEL_DIR / language_model.MODEL_FILE).read_bytes()
    arrays = io.BytesIO()
    np.savez(arrays, x=np.zeros(3))
    content = {
        "truncated": whole[: len(whole) // 2],
        "cut short": whole[:-1],
        "empty": b"",
        "another": b"PK\x03\x04" + bytes(99),
        "no archive": lzma.compress(b"a model?"),
        "other arrays": lzma.compress(arrays.getvalue()),
    }[kind]
    (tmp_path / "model.npz.xz").write_bytes(content)
    monkeypatch.setattr(language_model, "MODEL_DIR", tmp_path)
    monkeypatch.setattr(language_model, "MODEL_FILE", "model.npz.xz")
    with pytest.raises(ValueError, match=r"model\.npz\.xz cannot be read as py3langid's model .* install py3langid"):
        load_py3langid.__wrapped__()


SIGNALS = pa.RecordBatch.from_pylist(
    [
        {"language": "en", "language_score": 0.75},
        {"language": "en", "language_score": 0.25},
        {"language": "de", "language_score": 0.25},
        {"language": None, "language_score": 0.0},
        {"language": None, "language_score": None},
    ],
    LANGUAGE,
)
KEEP, SCORE = "language.keep", "language.min_score"


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        (LanguageBounds(), [None] * 5),
        (LanguageBounds(keep=("en", "fr")), [None, None, KEEP, KEEP, None]),
        (LanguageBounds(keep=()), [KEEP] * 4 + [None]),
        (LanguageBounds(min_score=0.25), [None, None, None, SCORE, None]),
        (LanguageBounds(min_score=0.0), [None] * 5),
        (LanguageBounds(keep=("en",), min_score=0.5), [None, SCORE, KEEP, KEEP, None]),
    ],
)
def test_violations(bounds: LanguageBounds, expected: list[str | None]) -> None:
    assert language_violations(SIGNALS, bounds).to_pylist() == expected


def test_keep_as_a_string_is_refused() -> None:
    with pytest.raises(ValueError, match=r"language\.keep is the string 'en'"):
        LanguageBounds(keep="en")  # type: ignore[arg-type]
