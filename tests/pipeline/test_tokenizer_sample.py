"""Documents drawn for a tokenizer: by weight, the same whatever the order, never what is held out or removed."""

import random
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.manifests.keyed import key64, mix64
from tokenmill.manifests.schemas import CONTENT, DECISIONS, LEDGER
from tokenmill.pipeline import tokenizer_sample
from tokenmill.pipeline.progress import NOTHING_MORE, Now, Quiet
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import write_table
from tokenmill.pipeline.tokenizer_sample import SamplePart, component_shares, draw, drawn_shares

ROWS = 250
STRATA = ("train/en", "train/en", "train/en", "train/de", "validation/en")
#: part, row, stratum, bytes, source: what a document is to the slow draw
Document = tuple[str, int, str, int, str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, list[SamplePart], list[Document]]:
    """Parts of two sources, and the documents in them that are kept and not removed."""
    storage, rng = Storage(str(tmp_path_factory.mktemp("parts"))), random.Random(5)
    parts, documents = [], []
    for number in range(14):
        source, key = ("web", "notes")[number % 5 == 4], f"{key64('part', number):016x}"
        rows = []
        removed = sorted(rng.sample(range(ROWS), 40))
        for row in range(ROWS if number != 3 else 0):
            kept, stratum, size = rng.random() < 0.8, rng.choice(STRATA), rng.randrange(3000)
            rows.append(
                (kept, None if kept else "x.min_y", stratum if kept else None, size if rng.random() < 0.98 else None)
            )
            if kept and row not in removed and rows[-1][3] is not None:
                documents.append((key, row, stratum, size, source))
        kept_rows, reasons, strata, sizes = zip(*rows, strict=True) if rows else ((), (), (), ())
        decisions = pa.table([kept_rows, reasons, strata], schema=DECISIONS)
        hashes = pa.table([[bytes(16)] * len(rows), sizes], schema=CONTENT)
        ledger = pa.table(
            [[key] * 40 + ["f" * 16], [*removed, 0], [key] * 41, [0] * 41, [1.0] * 41, ["exact"] * 41, [None] * 41],
            schema=LEDGER,
        )
        tables = {
            "decisions": write_table(storage, "decisions", f"decisions/{key}.parquet", decisions),
            "signals/hashes": write_table(storage, "signals/hashes", f"hashes/{key}.parquet", hashes),
        }
        parts.append(SamplePart(source, key, tables, [], write_table(storage, "l", f"ledger/{key}.parquet", ledger)))
    return storage, parts, documents


def component(document: Document, shares: Mapping[str, int]) -> str | None:
    name = f"{document[4]}/{document[2].replace('validation', 'train')}"
    return max((share for share in shares if f"{name}/".startswith(f"{share}/")), key=len, default=None)


def is_held_out(document: Document) -> bool:
    hashed = mix64(np.array([document[1]], np.uint64), key64("tokenizer-held-out", document[0]))[0]
    return document[2].startswith("validation") or int(hashed) < 2**64 // 32


def slow(documents: list[Document], shares: Mapping[str, int], held_out: bool) -> list[tuple[str, int, str, int]]:
    """What is to be drawn: all documents of a component in their order, from the first on until its share is full."""
    pools = defaultdict(list)
    for document in documents:
        name = component(document, shares)
        if name is not None and is_held_out(document) == held_out:
            part, row = document[:2]
            hashed = int(mix64(np.array([row], np.uint64), key64("tokenizer-sample", part))[0])
            level = len(f"{hashed >> 60:b}") if hashed >> 60 else 0
            pools[name].append((level, key64("tokenizer-part", part), hashed, part, row, document[3]))
    found = []
    for name, pool in pools.items():
        left = shares[name]
        for *_, part, row, size in sorted(pool):
            if left <= 0:
                break
            found.append((part, row, name, size))
            left -= size
    return sorted(found)


def rows_of(drawn: pa.Table) -> list[tuple[str, int, str, int]]:
    return list(zip(*(column.to_pylist() for column in drawn.columns), strict=True))


@settings(max_examples=25)
@given(
    st.dictionaries(
        st.sampled_from(["web", "web/train/de", "web/train/en", "notes", "notes/train", "notes/train/fr"]),
        st.integers(0, 3_000_000),
        min_size=1,
    ),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_the_draw_is_the_slow_one_in_any_order_of_parts(made, shares, held_out, rng):
    storage, parts, documents = made
    parts = rng.sample(parts, len(parts))
    assert rows_of(draw(storage, parts, shares, (), Quiet(), held_out)) == slow(documents, shares, held_out)


def test_a_larger_draw_holds_the_smaller_one_and_a_small_pool_changes_nothing(made, monkeypatch: pytest.MonkeyPatch):
    storage, parts, _ = made
    before: set[tuple[str, int, str, int]] = set()
    for share in (1, 10_000, 100_000, 300_000, 600_000, 1_200_000, 5_000_000):
        shares = {"web": share, "notes": share // 3}
        drawn = draw(storage, parts, shares, (), Quiet())
        with monkeypatch.context() as patch:
            patch.setattr(tokenizer_sample, "_ROOM", 7)
            assert draw(storage, parts, shares, (), Quiet()).equals(drawn)
        assert before <= set(rows_of(drawn))
        before = set(rows_of(drawn))


def test_a_small_share_of_much_text_looks_into_few_parts(made):
    storage, parts, _ = made
    told: list[tuple[str, int, int]] = []

    class Told(Quiet):
        def step(self, name: str, done: int, total: int, now: Now = NOTHING_MORE) -> None:
            told.append((name, done, total))

    draw(storage, parts, {"web": 20_000}, (), Told())
    assert 1 <= len(told) <= 5
    assert told[-1][2] == 12
    told.clear()
    draw(storage, parts, {"web": 20_000_000}, (), Told())
    assert told[-1][1:] == (12, 12)


def test_what_was_asked_for_and_what_there_was(made):
    storage, parts, documents = made
    shares = {"web/train/de": 50_000, "notes": 10_000_000, "web/train/fr": 7}
    drawn = draw(storage, parts, shares, (), Quiet())
    found = drawn_shares(drawn, shares)
    assert list(found) == ["notes", "web/train/de", "web/train/fr"]
    assert found["web/train/fr"] == {"asked_bytes": 7, "documents": 0, "bytes": 0}
    assert 50_000 <= found["web/train/de"]["bytes"] < 53_000
    notes = [document for document in documents if document[4] == "notes" and not is_held_out(document)]
    there = {"documents": len(notes), "bytes": sum(document[3] for document in notes)}
    assert found["notes"] == {"asked_bytes": 10_000_000, **there}
    assert len(rows_of(drawn)) == sum(row["documents"] for row in found.values())


def recipe(**mixture: object) -> Recipe:
    source = {"reader": "jsonl", "paths": ["*.jsonl"]}
    return Recipe.model_validate(
        {
            "name": "r",
            "tokenizer": {"train": {"vocab_size": 300}},
            "sources": [{"name": "web", **source}, {"name": "notes", **source}],
            "sequences": {"length": 8},
            "strata": {"by": ["language", "copies"]},
            "mixture": mixture,
        }
    )


def test_shares_are_the_mixtures(made):
    parts = made[1]
    kept = {part.key: 100 if part.source == "web" else 300 for part in parts}  # 12 parts and 2
    assert component_shares(recipe(), parts, kept, 1800) == {"notes": 600, "web": 1200}
    weights = {"web/train/en": 1.0, "web": 2.0, "notes": 1.0, "web/train/en/copies=10+": 4.0}
    assert component_shares(recipe(weights=weights), parts, kept, 800) == {
        "web/train/en": 500,
        "web": 200,
        "notes": 100,
    }
    # a source that came with a later generation has no share, and takes none from the others
    only_web = [part for part in parts if part.source == "web"]
    assert component_shares(recipe(weights=weights), only_web, kept, 700) == {"web/train/en": 500, "web": 200}
    weights = {"web/train/en/length=64": 4.0, "web": 2.0, "notes/train/length=64": 1.0, "notes/train/length=96": 1.0}
    assert component_shares(recipe(weights=weights), parts, kept, 800) == {"web": 600, "notes/train": 200}


def test_nothing_to_draw_from(tmp_path: Path):
    assert draw(Storage(str(tmp_path)), [], {"web": 100}, (), Quiet()).num_rows == 0
    assert component_shares(recipe(), [], {}, 100) == {}


def test_a_pool_holds_no_more_than_it_needs(monkeypatch: pytest.MonkeyPatch):
    """A rare component is looked for in every part; what may be drawn of it meanwhile stays bounded."""
    monkeypatch.setattr(tokenizer_sample, "_ROOM", 50)
    pool = tokenizer_sample._Pool(1000)
    for rank in range(40):
        found = np.zeros(30, tokenizer_sample._CANDIDATE)
        found["level"], found["rank"], found["row"], found["bytes"] = 1, rank, np.arange(30), 10
        pool.add(found)
        assert sum(map(len, pool._found)) <= 100 + 50 + 30
    assert not pool.is_full
    assert len(pool.drawn()) == 100
