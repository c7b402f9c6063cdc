"""Runs opened to be mixed, and what is packed of their sources."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tokenmill.manifests.lengths import in_words
from tokenmill.manifests.mixture import Mixture
from tokenmill.manifests.schemas import SHARDS
from tokenmill.manifests.stages import source_of
from tokenmill.manifests.wanted import Packed
from tokenmill.pipeline.loader.published import read_mixture
from tokenmill.pipeline.loader.stock import packed_rows
from tokenmill.pipeline.steps.publish import Published, manifest_table
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.versions import open_version

#: What rows of one shard table share.
FORM = ("sequence_length", "sequence_align", "layout")
_NAMED = re.compile(r"(?:(?P<name>[A-Za-z0-9_-]+)=)?(?P<run>.+)")


@dataclass(frozen=True, eq=False)
class MixRun:
    """A version of a run, opened to be mixed.

    Attributes:
        name: what sources may be called by, as in `old.web`; "" where it was given none.
        storage: its root.
        published: the version.
        mixture: its own; what its rows look like.
        shards: its shard table, of schema SHARDS.
    """

    name: str
    storage: Storage
    published: Published
    mixture: Mixture
    shards: pa.Table

    @property
    def url(self) -> str:
        """Of the version's manifest: what errors call it."""
        return self.storage.url(self.published.path)

    @property
    def form(self) -> tuple[Any, ...]:
        """What rows of one shard table share."""
        return tuple(getattr(self.mixture, name) for name in FORM)


@dataclass(frozen=True)
class MixedSource:
    """What a name of the recipe means.

    Attributes:
        run: its place among the runs.
        source: its name in the run.
        train: what there is to train on, by component: the source's name in the mixture / stratum.
        held_out: the same, of what was held out.
    """

    run: int
    source: str
    train: Mapping[str, Packed]
    held_out: Mapping[str, Packed]


def open_to_mix(_: None, named: str) -> MixRun:
    """Open a run by its folder or URL, `@` a version, `NAME=` before it a name.

    Raises:
        ValueError: it has not published, nothing of it was kept for training, its rows have several lengths, or a
            manifest is not what was written.
    """
    match = _NAMED.fullmatch(named)
    if match is None:
        raise ValueError(f"{named!r} is no run: give a folder or URL, or NAME=RUN")
    storage, published = open_version(match["run"])
    if published.value["mixture"] is None:
        raise ValueError(f"{storage.url(published.path)} has nothing to train on; `tokenmill audit` says why")
    mixture = read_mixture(storage, published.value["mixture"])
    if mixture.batch_size is not None:
        raise ValueError(
            f"{storage.url(published.path)} has rows of {in_words(mixture.lengths)} tokens, and a mix takes "
            "runs of one length: pack it without `sequences: {buckets: …}`, or put all sources into one recipe"
        )
    shards = manifest_table(storage, published, "shards").select(SHARDS.names)
    return MixRun(match["name"] or "", storage, published, mixture, shards)


def mixed_source(name: str, run: MixRun, number: int, source: str) -> MixedSource:
    """A source with what is packed of it."""
    packed = {
        f"{name}/{component.split('/', 1)[1]}": Packed(*found)
        for component, found in packed_rows(run.shards).items()
        if source_of(component) == source
    }
    splits = {
        split: {component: found for component, found in packed.items() if component.split("/")[1] == split}
        for split in ("train", "validation")
    }
    if not splits["train"]:
        raise ValueError(
            f"nothing of source {name!r} is packed for training in {run.url}; `tokenmill audit` says why: take it out"
        )
    return MixedSource(number, source, splits["train"], splits["validation"])
