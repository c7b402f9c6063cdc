"""How many bytes a token of a tokenizer holds, by source and by language, on documents that it was not trained on."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tokenmill.pipeline.progress import Reporter
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import one_chunk, read_table
from tokenmill.pipeline.tokenizer_sample import SamplePart, drawn_documents
from tokenmill.pipeline.tokens.byte_level import bytes_of
from tokenmill.pipeline.tokens.encode import Encoder, TokenizerPolicy
from tokenmill.pipeline.tokens.tokenizer_json import parse, token_ids

#: Nothing around a document, so that only its text counts.
_BARE = TokenizerPolicy(None, None, None, None, append_eos=False)
#: The language of a document of a source that tells no languages.
_UNTOLD = ""
_LONGEST = 20
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Measured:
    """Figures of several tokenizers on the same documents.

    Attributes:
        documents: measured on.
        bytes: of their text.
        figures: of each tokenizer, in the order given; plain values.
    """

    documents: int
    bytes: int
    figures: list[dict[str, Any]]


@dataclass
class _Counts:
    """Of one tokenizer.

    Attributes:
        encoder: it.
        single: bool[vocab_size], ids that stand for one byte.
        seen: bool[vocab_size], ids that were met.
        single_tokens: how many tokens stood for one byte.
        tokens: by (source, language).
    """

    encoder: Encoder
    single: npt.NDArray[np.bool_]
    seen: npt.NDArray[np.bool_]
    single_tokens: int = 0
    tokens: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))


def measure(
    storage: Storage, parts: Sequence[SamplePart], drawn: pa.Table, tokenizers: Mapping[str, bytes], show: Reporter
) -> Measured:
    """Encode the documents of a draw by each tokenizer.

    Args:
        storage: the run's folder.
        parts: that the documents were drawn from.
        drawn: of SAMPLE.
        tokenizers: bytes of each tokenizer.json, by the name it is told of by.
        show: told of documents done.

    Raises:
        ValueError: bytes that are no tokenizer.json, naming it.
    """
    counts = {name: _counts(name, data) for name, data in tokenizers.items()}
    sizes: dict[tuple[str, str], I64] = defaultdict(lambda: np.zeros(2, np.int64))  # documents, bytes
    languages: dict[str, pa.Array] = {}  # of the part at hand
    done = 0
    for part, batch in drawn_documents(storage, parts, drawn):
        if part.key not in languages:
            languages = {part.key: _languages(storage, part)}
        told = languages[part.key].take(pa.array(batch.rows)).dictionary_encode()
        codes, names = told.indices.to_numpy(), [(part.source, name) for name in told.dictionary.to_pylist()]
        text_bytes = pc.binary_length(batch.texts).to_numpy()
        for code, name in enumerate(names):
            sizes[name] += (int((codes == code).sum()), int(text_bytes[codes == code].sum()))
        for count in counts.values():
            _count(count, batch.texts, codes, names)
        done += len(batch.rows)
        show.step("measure", done, drawn.num_rows)
    whole = sum(sizes.values(), np.zeros(2, np.int64))
    return Measured(int(whole[0]), int(whole[1]), [_figures(name, count, sizes) for name, count in counts.items()])


def _counts(name: str, data: bytes) -> _Counts:
    try:
        encoder = Encoder(data, _BARE)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    single = np.zeros(encoder.vocab_size, np.bool_)
    single[_single_bytes(data)] = True
    return _Counts(encoder, single, np.zeros(encoder.vocab_size, np.bool_))


def _single_bytes(data: bytes) -> list[int]:
    """Ids of the tokens that stand for one byte, in a byte-level vocabulary or one with SentencePiece's fallback."""
    ids = token_ids(parse(data))
    by_bytes = bytes_of(ids)
    if all(bytes([byte]) in by_bytes for byte in range(256)):
        return [by_bytes[bytes([byte])] for byte in range(256)]
    fallback = {f"<0x{byte:02X}>" for byte in range(256)}
    return [number for piece, number in ids.items() if piece in fallback or (len(piece) == 1 and piece.isascii())]


def _languages(storage: Storage, part: SamplePart) -> pa.Array:
    """The language of every row of a part; _UNTOLD where it was not measured."""
    if "signals/language" in part.tables:
        column = read_table(storage, part.tables["signals/language"].path, ["language"]).column(0)
        return pc.fill_null(one_chunk(column).cast(pa.string()), _UNTOLD)
    rows = read_table(storage, part.tables["decisions"].path, ["kept"]).num_rows
    return pa.repeat(_UNTOLD, rows)


def _count(
    count: _Counts, texts: pa.LargeStringArray, codes: npt.NDArray[np.int32], names: Sequence[tuple[str, str]]
) -> None:
    batch = count.encoder.encode(texts)
    count.seen[batch.tokens] = True
    count.single_tokens += int(count.single[batch.tokens].sum())
    for code, name in enumerate(names):
        count.tokens[name] += int(batch.lengths[codes == code].sum())


def _figures(name: str, count: _Counts, sizes: Mapping[tuple[str, str], I64]) -> dict[str, Any]:
    tokens = sum(count.tokens.values())
    whole = sum(int(size[1]) for size in sizes.values())
    return {
        "tokenizer": name,
        "hash": count.encoder.hash,
        "vocab_size": count.encoder.vocab_size,
        "tokens": tokens,
        "bytes_per_token": _ratio(whole, tokens),
        "single_byte_fraction": _ratio(count.single_tokens, tokens),
        "vocabulary_seen_fraction": _ratio(int(count.seen.sum()), count.encoder.vocab_size),
        "sources": _grouped(0, count, sizes),
        "languages": _grouped(1, count, sizes),
    }


def _grouped(by: int, count: _Counts, sizes: Mapping[tuple[str, str], I64]) -> dict[str, dict[str, Any]]:
    """Figures by source (`by` 0) or by language (1); documents of no known language are in none."""
    found: dict[str, dict[str, Any]] = {}
    for name in sorted({name[by] for name in sizes} - {_UNTOLD}):
        inside = [key for key in sizes if key[by] == name]
        documents, text_bytes = (int(sum(sizes[key][place] for key in inside)) for place in (0, 1))
        tokens = sum(count.tokens[key] for key in inside)
        ratio = _ratio(text_bytes, tokens)
        found[name] = {"documents": documents, "bytes": text_bytes, "tokens": tokens, "bytes_per_token": ratio}
    return found


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def longest_tokens(tokenizer_json: bytes) -> list[str]:
    """The longest tokens that a byte-level tokenizer learned, in bytes; U+FFFD where one ends inside a character."""
    value = parse(tokenizer_json)
    special = {token["content"] for token in value["added_tokens"]}
    learned = {piece: number for piece, number in value["model"]["vocab"].items() if piece not in special}
    pieces = sorted(bytes_of(learned), key=lambda piece: (-len(piece), piece))
    return [piece.decode(errors="replace") for piece in pieces[:_LONGEST]]


def sample_table(sample: Mapping[str, Mapping[str, int]]) -> Table:
    """What was trained on, for people."""
    table = _table("trained on", ("component", "documents", "MB", "MB asked for"))
    for name, row in sample.items():
        table.add_row(name, f"{row['documents']:,}", *(f"{row[key] / 1e6:,.2f}" for key in ("bytes", "asked_bytes")))
    return table


def figure_table(report: Mapping[str, Any]) -> Table:
    """Bytes a token of each tokenizer, by source and language, for people."""
    first, *others = report["measured"]
    title = f"bytes a token, on {report['held_out']['documents']:,} held-out documents"
    table = _table(
        title, ("", "documents", "MB", "tokens", first["tokenizer"], *(other["tokenizer"] for other in others))
    )
    for kind in ("sources", "languages"):
        for name, row in first[kind].items():
            ratios = [_shown(one[kind][name]["bytes_per_token"]) for one in report["measured"]]
            table.add_row(name, f"{row['documents']:,}", f"{row['bytes'] / 1e6:,.2f}", f"{row['tokens']:,}", *ratios)
        table.add_section()
    size = f"{report['held_out']['bytes'] / 1e6:,.2f}"
    all_of_it = [_shown(one["bytes_per_token"]) for one in report["measured"]]
    table.add_row("all", f"{report['held_out']['documents']:,}", size, f"{first['tokens']:,}", *all_of_it)
    for title, key in (("tokens of one byte", "single_byte_fraction"), ("vocabulary seen", "vocabulary_seen_fraction")):
        table.add_row(
            title, "", "", "", *("–" if one[key] is None else f"{one[key]:.1%}" for one in report["measured"])
        )
    table.add_row("vocabulary", "", "", "", *(f"{one['vocab_size']:,}" for one in report["measured"]))
    return table


def _shown(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.3f}"


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    return table
