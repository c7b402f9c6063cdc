"""A global row traced back to its documents, as people see it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tokenmill.pipeline.seen import visible


@dataclass(frozen=True)
class TracedPiece:
    """A document, or as much of it as lies in the row.

    Attributes:
        document: its identity, "part:row".
        source: of the document.
        place: raw_file, raw_offset, and url, repository, path where it has them.
        at: place of the piece's first token in the row.
        start: that token's number within the document.
        tokens: of the piece.
        document_tokens: of the whole document, in all rows.
        decision: kept, reason and stratum, as *select* decided.
        signals: what the filters measured, "group.signal".
        cluster: its row of the clusters table, when it is like others.
        takedown: its row of the newest version's takedown table: it is in no row of that version.
        text: the piece's tokens, decoded; None unless asked for.
        branch: of a preference pair "chosen" or "rejected", the conversation that the piece is; else None.
    """

    document: str
    source: str
    place: Mapping[str, Any]
    at: int
    start: int
    tokens: int
    document_tokens: int
    decision: Mapping[str, Any]
    signals: Mapping[str, Any]
    cluster: Mapping[str, Any] | None
    takedown: Mapping[str, Any] | None
    text: str | None
    branch: str | None = None

    @property
    def is_cut(self) -> bool:
        """Whether the rest of the document lies elsewhere."""
        return self.branch is None and self.tokens < self.document_tokens


@dataclass(frozen=True)
class TracedRow:
    """A global row.

    Attributes:
        k: its number.
        component: "source/stratum".
        epoch: how often the component's rows had all been visited before.
        stored_row: row of the component in stored order.
        run: manifest of the version it is of, where the mixture is of several runs; else "".
        unit: that it was packed from.
        shard: path under the run's root.
        record_batch: in that shard.
        batch_row: row in that record batch.
        length: L.
        pieces: what is in it.
    """

    k: int
    component: str
    epoch: int
    stored_row: int
    run: str
    unit: str
    shard: str
    record_batch: int
    batch_row: int
    length: int
    pieces: tuple[TracedPiece, ...]


def as_json(row: TracedRow) -> dict[str, Any]:
    """A row as plain values; without `text` where none was asked for."""
    value = asdict(row)
    for piece, traced in zip(value["pieces"], row.pieces, strict=True):
        piece["is_cut"] = traced.is_cut
        if traced.text is None:
            del piece["text"]
        if traced.branch is None:
            del piece["branch"]
    return value


def told(row: TracedRow) -> str:
    """A row in a few lines a document, for people."""
    lines = [
        f"row {row.k:,}: component {row.component}, epoch {row.epoch}, its stored row {row.stored_row:,}",
        f"  record batch {row.record_batch}, row {row.batch_row} in it, of {row.shard} (unit {row.unit})",
    ]
    lines += [f"  run {row.run}"] if row.run else []
    for piece in row.pieces:
        lines += ["", *_piece_told(piece)]
    filled = sum(piece.tokens for piece in row.pieces)
    if filled < row.length:
        lines += ["", f"  {row.length - filled:,} of its {row.length:,} tokens are padding"]
    return "\n".join(lines)


def _piece_told(piece: TracedPiece) -> Iterator[str]:
    names = " ".join(str(piece.place[name]) for name in ("url", "repository", "path") if name in piece.place)
    yield f"  {piece.at:,} … {piece.at + piece.tokens - 1:,}  {piece.document}  {visible(names, 400)}".rstrip()
    raw = f"{piece.place['raw_file']} at {piece.place['raw_offset']}"
    yield f"    source {piece.source}, raw file {visible(raw, 400)}"
    last = piece.start + piece.tokens - 1
    of = "all of it" if not piece.is_cut else f"of {piece.document_tokens:,}: it is cut"
    if piece.branch is not None:
        of = f"of {piece.document_tokens:,}: the {piece.branch} conversation"
    yield f"    tokens {piece.start:,} … {last:,}, {of}"
    stratum = f"stratum {piece.decision['stratum']}"
    yield f"    kept: {stratum}" if piece.decision["kept"] else f"    dropped: {piece.decision['reason']}"
    for group, values in _grouped(piece.signals).items():
        yield f"    {group}: {', '.join(f'{name} {_shown(value)}' for name, value in values.items())}"
    if piece.cluster is not None:
        of = f"{piece.cluster['cluster_part']}:{piece.cluster['cluster_row']}"
        earlier = f" of the earlier run {piece.cluster['cluster_run']}" if piece.cluster.get("cluster_run") else ""
        yield f"    seen {piece.cluster['cluster_documents']:,} times: it belongs to the cluster of {of}{earlier}"
    if piece.takedown is not None:
        reason = f": {visible(piece.takedown['reason'], 400)}" if piece.takedown["reason"] else ""
        when = f"taken down on {piece.takedown['requested']}, named as {piece.takedown['why']}{reason}"
        yield f"    {when}; the run's newest version is without it"
    if piece.text is not None:
        yield from (f"    │ {line}" for line in visible(piece.text, len(piece.text)).split("\n"))


def _grouped(signals: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, value in signals.items():
        group, _, signal = name.partition(".")
        found[group][signal] = value
    return found


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return visible(value, 100)
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
