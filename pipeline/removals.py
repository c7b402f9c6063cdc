"""The removal list of a run: what people asked to take down, when and why.

A request is a file of its own under `removals/`, so that two cannot lose each other's; none is ever changed, and every
later run into the folder reads them all. Requests of documents hold for those documents and, by the hash of their
content, for their exact copies; requests of a URL or a domain hold for documents that come later as well.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.filters.urls import UrlRules, url_key, url_rules, url_violations
from tokenmill.manifests.schemas import REMOVALS
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import read_table, write_table

FOLDER = "removals"
_STEPS = re.compile("[/?]")
#: One regular expression is made of so many hosts at most.
_HOSTS_SEARCHED = 256
#: Kind, what, and the content hash of a document that was to be packed.
Entry = tuple[str, str, bytes | None]
#: int32, sorted, by part key.
Rows = dict[str, npt.NDArray[np.int32]]


@dataclass(frozen=True)
class Request:
    """One request, ready to look up.

    Attributes:
        documents: rows named, by part key.
        copies: rows that the ledger had removed for one of them, by part key.
        hashes: content hashes of those of them that were to be packed.
        urls: `url_key` of the URLs named.
        domains: a domain takes everything below it.
        reason: in the words of whoever asked.
        requested: ISO 8601, UTC.
    """

    documents: Rows
    copies: Rows
    hashes: pa.Array
    urls: frozenset[str]
    domains: tuple[str, ...]
    reason: str
    requested: str

    @cached_property
    def domain_rules(self) -> UrlRules:
        """The domains as they are looked up."""
        return url_rules(domains=self.domains)

    @property
    def names_urls(self) -> bool:
        """Whether URLs have to be read to know what it takes down."""
        return bool(self.urls or self.domains)


def request_paths(storage: Storage) -> list[str]:
    """All requests, in the order in which they were made."""
    return sorted(storage.sizes(FOLDER))


def read_requests(storage: Storage, paths: Sequence[str]) -> tuple[Request, ...]:
    """The requests in these files; read once a process."""
    return _read_requests(storage.root, tuple(paths))


@lru_cache(maxsize=4)
def _read_requests(root: str, paths: tuple[str, ...]) -> tuple[Request, ...]:
    return tuple(_request(read_table(Storage(root), path)) for path in paths)


def _request(table: pa.Table) -> Request:
    named: dict[str, list[str]] = {"document": [], "copy": [], "url": [], "domain": []}
    for kind, what in zip(table.column("kind").to_pylist(), table.column("what").to_pylist(), strict=True):
        named[kind].append(what)
    first = table.slice(0, 1).to_pylist()[0]
    return Request(
        rows_of(named["document"]),
        rows_of(named["copy"]),
        table.column("content_hash").combine_chunks().drop_null(),
        frozenset(map(url_key, named["url"])),
        tuple(named["domain"]),
        first["reason"],
        first["requested"],
    )


def rows_of(names: Iterable[str]) -> Rows:
    """Documents, "part:row", as rows by part."""
    rows: dict[str, list[int]] = {}
    for name in names:
        part, _, row = name.partition(":")
        rows.setdefault(part, []).append(int(row))
    return {part: np.array(sorted(found), np.int32) for part, found in rows.items()}


def question(urls: Sequence[str] = (), domains: Sequence[str] = ()) -> Request:
    """A request that is only asked about, not made."""
    return Request({}, {}, pa.array([], pa.binary(16)), frozenset(map(url_key, urls)), tuple(domains), "", "")


def listed(storage: Storage) -> set[tuple[str, str]]:
    """Everything on the list, each as its `entry_key`."""
    found: set[tuple[str, str]] = set()
    for path in request_paths(storage):
        table = read_table(storage, path, ["kind", "what"])
        found |= set(map(entry_key, table.column("kind").to_pylist(), table.column("what").to_pylist()))
    return found


def entry_key(kind: str, what: str) -> tuple[str, str]:
    """What an entry is compared by: two spellings of a URL or a domain are one."""
    if kind in ("document", "copy"):
        return kind, what
    return kind, url_key(what) if kind == "url" else what.lower().strip(".")


def write_request(storage: Storage, entries: Sequence[Entry], reason: str, requested: str) -> str:
    """Put a request on the list, of at least one entry. Returns its path."""
    assert entries, "a request names something"
    rows: list[dict[str, Any]] = [
        {"kind": kind, "what": what, "content_hash": digest, "reason": reason, "requested": requested}
        for kind, what, digest in sorted(set(entries), key=lambda entry: entry[:2])
    ]
    number = len(request_paths(storage))
    table = pa.Table.from_pylist(rows, schema=REMOVALS)
    return write_table(storage, "removals", f"{FOLDER}/{number:05d}.{{hash}}.parquet", table).path


def named_rows(urls: pa.StringArray, request: Request) -> dict[int, str]:
    """The rows whose URL the request names, ascending: "url" or "domain"."""
    hosts = [host_of(name) for name in (*sorted(request.urls), *request.domains)]
    rows = rows_near(urls, hosts)
    named = urls_named(urls.take(pa.array(rows)).to_pylist(), request)
    return {row: kind for row, kind in zip(rows.tolist(), named, strict=True) if kind is not None}


def host_of(name: str) -> str:
    """The host of a URL, or a domain, as it stands in every URL of it that is ASCII; without "www."."""
    return _STEPS.split(url_key(name.strip(".")), maxsplit=1)[0].strip(".")


def rows_near(urls: pa.StringArray, hosts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Rows in whose URL one of the hosts may stand: a plain search, 50 times as fast as to take a URL apart.

    A URL that is not ASCII is always near: its host may be one of them in another spelling.
    """
    if len(hosts) > _HOSTS_SEARCHED:
        return np.flatnonzero(urls.is_valid().to_numpy(zero_copy_only=False))
    held = pc.match_substring_regex(pc.ascii_lower(urls), "|".join(map(re.escape, hosts)))
    near = pc.or_(held, pc.invert(pc.string_is_ascii(urls)))
    return np.flatnonzero(pc.fill_null(near, False).to_numpy(zero_copy_only=False))


def urls_named(urls: Sequence[str | None], request: Request) -> list[str | None]:
    """For each URL "url" or "domain", whichever of the request names it, or None."""
    found: list[str | None] = [None] * len(urls)
    if request.domains:
        hits = url_violations(urls, request.domain_rules)
        found = ["domain" if hit else None for hit in hits]
    if request.urls:
        found = [
            "url" if url is not None and url_key(url) in request.urls else hit
            for url, hit in zip(urls, found, strict=True)
        ]
    return found
