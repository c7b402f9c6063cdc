"""Looks over many parts: the same in this process and by an executor; told as they go."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pipeline.test_progress import Told
from tokenmill.filters.urls import url_key
from tokenmill.manifests.receipts import Output
from tokenmill.pipeline import scan
from tokenmill.pipeline.executors import InlineExecutor
from tokenmill.pipeline.removals import host_of, named_rows, question, rows_near, urls_named
from tokenmill.pipeline.scan import scan_soon
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.takedown_find import _of_page
from tokenmill.pipeline.why import rows_named

URLS = [
    *(None, "http://a.example/1", "https://www.a.example:443/1#top"),
    *("http://b.a.example/", "http://aa.example/1", None),
]


class Elsewhere(InlineExecutor):
    """Takes and hands back copies, last item first, as workers of another process might."""

    def map(self, function: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        moved = pickle.loads(pickle.dumps((function, shared, list(items)[::-1])))
        found = list(super().map(*moved))
        yield from ((len(found) - 1 - index, pickle.loads(pickle.dumps(result))) for index, result in found)


def no_opening() -> Any:
    raise AssertionError("the look was short")


def parts(folder: Path) -> list[Output]:
    """Three parts of six rows, two a row group; the second begins one row later."""
    outputs = []
    for number in range(3):
        urls = pa.array(URLS[number % 2 :], pa.string())
        paths = pa.array([f"f{row}.py" for row in range(len(urls))])
        table = pa.table({"url": urls, "repository": pa.array([f"r{number}"] * len(urls)), "path": paths})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=2)
        outputs.append(Output("documents", f"{number}.parquet", 0, "", {}))
    return outputs


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("http://a.example/1", [[1, 2], [0, 1], [1, 2]]),
        ("https://A.example/1#x", [[1, 2], [0, 1], [1, 2]]),
        ("http://aa.example/1", [[4], [3], [4]]),
        ("http://a.example/2", [[], [], []]),
        ("f4.py", [[4], [4], [4]]),
        ("r1/f4.py", [[], [4], []]),
    ],
)
@pytest.mark.parametrize("patience", [60.0, 0.0])
def test_rows_are_found_here_and_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, expected: list[list[int]], patience: float
) -> None:
    monkeypatch.setattr(scan, "PATIENCE_S", patience)
    told = Told()

    @contextmanager
    def opening() -> Iterator[tuple[Elsewhere, Told]]:
        yield Elsewhere(), told

    shared = (Storage(str(tmp_path)), asked)
    found = scan_soon(no_opening if patience else opening, "look", rows_named, shared, parts(tmp_path))
    assert found == expected
    assert [step[:3] for step in told.steps] == ([] if patience else [("look", done, 3) for done in (1, 2, 3)])


def test_only_the_rest_is_done_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(scan.time, "monotonic", lambda: float(next(clock)))
    told = Told()

    @contextmanager
    def opening() -> Iterator[tuple[Elsewhere, Told]]:
        yield Elsewhere(), told

    assert scan_soon(opening, "add", divmod, 7, [1, 2, 3, 4]) == [(7, 0), (3, 1), (2, 1), (1, 3)]
    assert [step[:3] for step in told.steps] == [("add", 2, 4), ("add", 3, 4), ("add", 4, 4)]


def test_what_cannot_be_looked_into_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "PATIENCE_S", 0.0)
    shared, items = (Storage(str(tmp_path)), "http://a.example/1"), parts(tmp_path)
    (tmp_path / "1.parquet").unlink()
    with pytest.raises(ValueError, match=r"cannot look for it: FileNotFoundError: no such file: .*/1\.parquet"):
        scan_soon(scan.opening("inline", None, None, quiet=True), "look for it", rows_named, shared, items)


_HOSTS = ["a.example", "www.a.example", "bücher.example", "xn--bcher-kva.example", "1.2.3.4", "x-y.example."]
_PARTS = st.sampled_from(["", "www.", "sub.", "WWW.", "x"])
_ANY_URL = st.builds(
    lambda scheme, part, host, port, rest: f"{scheme}{part}{host}{port}{rest}",
    st.sampled_from(["http://", "HTTPS://", "//", "", "http://user@"]),
    _PARTS,
    st.sampled_from([*_HOSTS, "A.Example", "BÜCHER.example", "ａ.example", "A.exam%70le"]),
    st.sampled_from(["", ":80", "."]),
    st.sampled_from(["", "/", "/p?q", "?q", "#f", "/%41", "/a.example"]),
)


@given(st.lists(st.none() | _ANY_URL, max_size=12), st.lists(_ANY_URL, max_size=2), st.lists(st.sampled_from(_HOSTS)))
def test_the_plain_search_misses_nothing(urls: list[str | None], pages: list[str], domains: list[str]) -> None:
    asked = question(pages, domains)
    whole = {row: kind for row, kind in enumerate(urls_named(urls, asked)) if kind is not None}
    assert named_rows(pa.array(urls, pa.string()), asked) == whole
    for page in pages:
        same = [row for row, url in enumerate(urls) if url is not None and url_key(url) == url_key(page)]
        assert set(same) <= set(rows_near(pa.array(urls, pa.string()), [host_of(page)]).tolist())


def test_pages_of_a_domain_and_what_names_them(tmp_path: Path) -> None:
    storage, (output, *_) = Storage(str(tmp_path)), parts(tmp_path)
    hits: set[str] = set()
    asked = question(("http://www.a.example/1", "http://c.example/"), ("a.example", "b.example"))
    assert _of_page(storage, output, asked, hits) == {1, 2, 3}
    assert hits == {"a.example/1", "a.example"}
