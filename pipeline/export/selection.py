"""What of a published run is exported: its shards of one split, checked against the balance sheet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.manifests.lengths import in_words, length_of
from tokenmill.manifests.mixture import Mixture
from tokenmill.manifests.shards import CorruptShardError, SequenceFormat, read_schema
from tokenmill.pipeline.loader.published import read_mixture
from tokenmill.pipeline.sheet import published_or_error
from tokenmill.pipeline.steps.publish import Published, manifest_table
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tokens.packing import Method, PackingPolicy

_MIXTURE_SAYS = ("vocab_size", "tokenizer_hash", "special_ids")


@dataclass(frozen=True)
class Selection:
    """Shards of a published run.

    Attributes:
        storage: the run's folder.
        published: its newest version.
        split: "train" or "validation".
        sources: their names, sorted.
        shards: rows of the shard table, in its order: by component, unit and path.
        sequences: what the first shard states: vocabulary and special ids, which all share, and its L.
        mixture: of the run; None where nothing was kept for training.
    """

    storage: Storage
    published: Published
    split: str
    sources: tuple[str, ...]
    shards: pa.Table
    sequences: SequenceFormat
    mixture: Mixture | None

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of the rows that there are, rising."""
        named = {length_of(name) or self.sequences.length for name in self.shards.column("component").to_pylist()}
        return tuple(sorted(named))

    def count(self, what: str) -> int:
        """Stored rows, tokens or documents: the sum of that column of the shard table."""
        return pc.sum(self.shards.column(what)).as_py() or 0


def select_shards(storage: Storage, sources: Sequence[str], split: str, length: int | None = None) -> Selection:
    """The shards of a run's newest version that hold `split` of `sources` (all, where none is named).

    Args:
        storage: the run's folder.
        sources: their names.
        split: "train" or "validation".
        length: tokens of their rows, where there are several lengths; by default all.

    Raises:
        ValueError: no published version, no such source or length, nothing packed for it, or a manifest and a shard
            that do not belong together.
    """
    published = published_or_error(storage)
    has = published.value["sources"]
    if unknown := sorted(set(sources) - set(has)):
        raise ValueError(f"no source {', '.join(map(repr, unknown))} in {storage.root!r}; it has {', '.join(has)}")
    names = tuple(sorted(set(sources) or has))
    table = manifest_table(storage, published, "shards")
    inside = [name.split("/")[0] in names and name.split("/")[1] == split for name in table["component"].to_pylist()]
    shards = table.filter(pa.array(inside, pa.bool_()))
    if not shards.num_rows:
        raise ValueError(
            f"nothing of {', '.join(names)} is packed for {split} in {storage.root!r}: `tokenmill audit` says what was "
            "kept; a validation split is `strata: {validation_fraction: …}` in the recipe"
        )
    shards = _of_length(storage, shards, length)
    first = shards.slice(0, 1).to_pylist()[0]
    sequences = _sequences(storage, first)
    mixture = read_mixture(storage, published.value["mixture"]) if published.value["mixture"] else None
    if mixture is not None:
        _check_mixture(storage.url(first["path"]), sequences, mixture, length_of(first["component"]))
    selection = Selection(storage, published, split, names, shards, sequences, mixture)
    check_tokens(selection, published.value["balance"])
    return selection


def _of_length(storage: Storage, shards: pa.Table, length: int | None) -> pa.Table:
    """The shards whose rows have that length, where it is asked for."""
    if length is None:
        return shards
    names = shards["component"].to_pylist()
    found = shards.filter(pa.array([length_of(name) == length for name in names], pa.bool_()))
    if not found.num_rows:
        has = sorted({each for name in names if (each := length_of(name)) is not None})
        told = f"has rows of {in_words(has)}" if has else "has rows of one length: leave out --length"
        raise ValueError(f"rows of {length} tokens are asked for, and what is exported of {storage.root!r} {told}")
    return found


def _sequences(storage: Storage, shard: Mapping[str, Any]) -> SequenceFormat:
    """The format that a shard's schema states."""
    head = storage.read_range(shard["path"], 0, shard["schema_bytes"])
    try:
        found = SequenceFormat.of(read_schema(head))
    except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
        url = storage.url(shard["path"])
        raise CorruptShardError(f"cannot read the schema of shard {url}: {error}; see `tokenmill verify`") from None
    known = [PackingPolicy(method).name for method in get_args(Method)]
    if found.packing not in known:
        raise ValueError(f"{storage.root!r} is packed by {found.packing}; an export reads {' and '.join(known)}")
    return found


def _check_mixture(url: str, found: SequenceFormat, mixture: Mixture, length: int | None) -> None:
    """Hold what a shard states against the mixture, and against the length that its component's name says."""
    length = mixture.sequence_length if length is None else length
    if (found.length, found.align) != (length, mixture.sequence_align) or any(
        getattr(found, name) != getattr(mixture, name) for name in _MIXTURE_SAYS
    ):
        raise CorruptShardError(
            f"shard {url} says it has rows of {found.length} tokens of tokenizer {found.tokenizer_hash}, the run's "
            f"mixture {length} of {mixture.tokenizer_hash}: `tokenmill verify` says which is changed"
        )


def check_tokens(selection: Selection, balance: Mapping[str, Any]) -> None:
    """The shard table must hold what the balance sheet says is packed."""
    stated = sum(
        tokens
        for source in selection.sources
        for stratum, tokens in balance[source]["tokens"].items()
        if stratum.split("/")[0] == selection.split and length_of(stratum) in (None, *selection.lengths)
    )
    if stated != selection.count("tokens"):
        raise ValueError(
            f"the balance sheet of {selection.storage.url(selection.published.path)} says {stated} tokens of "
            f"{selection.split}, its shard table {selection.count('tokens')}: publish the run again"
        )
