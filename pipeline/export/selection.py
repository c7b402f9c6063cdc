"""What of a published run is exported: its shards of one split, checked against the balance sheet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute as pc

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
        sequences: L, vocabulary and special ids, which all shards share.
        mixture: of the run; None where nothing was kept for training.
    """

    storage: Storage
    published: Published
    split: str
    sources: tuple[str, ...]
    shards: pa.Table
    sequences: SequenceFormat
    mixture: Mixture | None

    def count(self, what: str) -> int:
        """Stored rows, tokens or documents: the sum of that column of the shard table."""
        return pc.sum(self.shards.column(what)).as_py() or 0


def select_shards(storage: Storage, sources: Sequence[str], split: str) -> Selection:
    """The shards of a run's newest version that hold `split` of `sources` (all, where none is named).

    Raises:
        ValueError: no published version, no such source, nothing packed for it, or a manifest and a shard that do not
            belong together.
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
    mixture = read_mixture(storage, published.value["mixture"]) if published.value["mixture"] else None
    selection = Selection(storage, published, split, names, shards, _sequences(storage, shards, mixture), mixture)
    check_tokens(selection, published.value["balance"])
    return selection


def _sequences(storage: Storage, shards: pa.Table, mixture: Mixture | None) -> SequenceFormat:
    """The format that the first shard's schema states, held against the mixture."""
    first = shards.slice(0, 1).to_pylist()[0]
    head = storage.read_range(first["path"], 0, first["schema_bytes"])
    url = storage.url(first["path"])
    try:
        found = SequenceFormat.of(read_schema(head))
    except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise CorruptShardError(f"cannot read the schema of shard {url}: {error}; see `tokenmill verify`") from None
    if mixture is not None and (
        (found.length, found.align) != (mixture.sequence_length, mixture.sequence_align)
        or any(getattr(found, name) != getattr(mixture, name) for name in _MIXTURE_SAYS)
    ):
        raise CorruptShardError(
            f"shard {url} says it has rows of {found.length} tokens of tokenizer {found.tokenizer_hash}, the run's "
            f"mixture {mixture.sequence_length} of {mixture.tokenizer_hash}: `tokenmill verify` says which is changed"
        )
    known = [PackingPolicy(method).name for method in get_args(Method)]
    if found.packing not in known:
        raise ValueError(f"{storage.root!r} is packed by {found.packing}; an export reads {' and '.join(known)}")
    return found


def check_tokens(selection: Selection, balance: Mapping[str, Any]) -> None:
    """The shard table must hold what the balance sheet says is packed."""
    stated = sum(
        tokens
        for source in selection.sources
        for stratum, tokens in balance[source]["tokens"].items()
        if stratum.split("/")[0] == selection.split
    )
    if stated != selection.count("tokens"):
        raise ValueError(
            f"the balance sheet of {selection.storage.url(selection.published.path)} says {stated} tokens of "
            f"{selection.split}, its shard table {selection.count('tokens')}: publish the run again"
        )
