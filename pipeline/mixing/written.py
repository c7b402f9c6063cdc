"""Writing a mixture of several runs: shard tables, tokenizer, a mixture a stage, and last the mix that lists them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from tokenmill.manifests.mix import Mix, MixedStage
from tokenmill.manifests.mixture import Component, Mixture, RunPlace
from tokenmill.manifests.receipts import Output
from tokenmill.manifests.stages import source_of
from tokenmill.manifests.wanted import Taken
from tokenmill.pipeline.loader.roots import place_of
from tokenmill.pipeline.mixing.runs import MixedSource, MixRun
from tokenmill.pipeline.mixing.settled import Settled
from tokenmill.pipeline.steps.publish import versions
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import write_table

#: Shards of a row group, some MB of record batches: what is being written is little beside the tables held.
_GROUP_ROWS = 1 << 12


@dataclass(frozen=True)
class Written:
    """A mix that lies in its folder.

    Attributes:
        path: of its manifest, under the root.
        mixtures: of its stages, likewise.
        is_new: whether it was not there before.
    """

    path: str
    mixtures: tuple[str, ...]
    is_new: bool


def check_output(storage: Storage) -> None:
    """Refuse a folder that is a run's: `verify` and `gc` of a run know of no mix."""
    if versions(storage):
        raise ValueError(f"{storage.root!r} holds a run: give a mixture a folder of its own")


def write_mix(storage: Storage, settled: Settled) -> Written:
    """Write what was settled; what is there already stays as it is.

    Raises:
        ValueError: the tokenizer of a run is not the one that its mixture names.
    """
    before = storage.sizes("manifests") | storage.sizes("tokenizer")
    tokenizer = _tokenizer(storage, before, settled.runs[0])
    places = [_place(storage, settled, number) for number in range(len(settled.runs))]
    tables: dict[tuple[object, ...], Output] = {}
    stages = []
    for taken in settled.stages:
        form = _run_of(settled, taken).form
        if form not in tables:
            table = _joined(settled, form)
            path = "manifests/shards.{hash}.parquet"
            tables[form] = write_table(storage, "shards", path, table, group_rows=_GROUP_ROWS, replace=False)
        mixture = _mixture(settled, taken, places, tokenizer, tables[form])
        _write_once(storage, before, mixture.path, mixture.to_json().encode())
        stages.append(MixedStage(mixture.path, sum(one.rows for one in taken)))
    mix = Mix(settled.recipe.name, settled.recipe.plain(), tuple(stages))
    _write_once(storage, before, mix.path, mix.to_json().encode())
    storage.forget_drafts()
    return Written(mix.path, tuple(stage.mixture for stage in stages), mix.path not in before)


def _run_of(settled: Settled, taken: Sequence[Taken]) -> MixRun:
    """One of the runs that a stage draws from: its rows look as those of all do."""
    source = next(source_of(one.component) for one in taken if one.rows)
    return settled.runs[settled.sources[source].run]


def _write_once(storage: Storage, before: Mapping[str, int], path: str, data: bytes) -> None:
    """Write what is named by its hash, unless it is there."""
    if before.get(path) != len(data):
        storage.write(path, data)


def _tokenizer(storage: Storage, before: Mapping[str, int], run: MixRun) -> str:
    """The runs' tokenizer, under the mixture's root."""
    data = run.storage.read(run.mixture.tokenizer_path)
    if (digest := xxhash.xxh3_128_hexdigest(data)) != run.mixture.tokenizer_hash:
        raise ValueError(
            f"{run.storage.url(run.mixture.tokenizer_path)} hashes to {digest}, its run's mixture says "
            f"{run.mixture.tokenizer_hash}: restore the file; `tokenmill verify` says what else is changed"
        )
    path = f"tokenizer/tokenizer.{digest}.json"
    _write_once(storage, before, path, data)
    return path


def _place(storage: Storage, settled: Settled, number: int) -> RunPlace:
    run = settled.runs[number]
    names = {name: one.source for name, one in sorted(settled.sources.items()) if one.run == number}
    place = place_of(run.storage.root, storage.root)
    return RunPlace(place, run.published.path, run.mixture.shard_table_hash, names)


def _joined(settled: Settled, form: tuple[object, ...]) -> pa.Table:
    """The shard table of all that stages of a form draw from, and of what is held out, sorted as `shard_table` does.

    Nothing is copied but names and paths: a component's shards lie together in its run's table, which is sorted so.
    """
    wanted = {one.component for stage in settled.stages for one in stage if one.rows} | set(settled.held_out)
    parts: dict[str, pa.Table] = {}
    for name, one in settled.sources.items():
        if settled.runs[one.run].form == form:
            parts |= _parts(settled.runs[one.run], name, one, wanted)
    return pa.concat_tables(parts[name] for name in sorted(parts))


def _parts(run: MixRun, name: str, one: MixedSource, wanted: set[str]) -> dict[str, pa.Table]:
    """A source's components as rows of the mixture's table, those that are wanted, by name."""
    found: dict[str, pa.Table] = {}
    for component, first, end in _stretches(run.shards["component"]):
        renamed = f"{name}/{component.partition('/')[2]}"
        if source_of(component) == one.source and renamed in wanted:
            part = run.shards.slice(first, end - first)
            paths = pc.binary_join_element_wise(pa.scalar(str(one.run)), part["path"], "/")
            for column, values in (("component", pa.repeat(renamed, part.num_rows)), ("path", paths)):
                part = part.set_column(part.schema.get_field_index(column), run.shards.schema.field(column), values)
            found[renamed] = part
    return found


def _stretches(values: pa.ChunkedArray) -> Iterator[tuple[str, int, int]]:
    """Each value of a sorted column with its first place and the one after its last."""
    encoded = values.combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy()
    borders = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    for first, end in pairwise(borders):
        yield encoded.dictionary[codes[first]].as_py(), first, end


def _mixture(
    settled: Settled, taken: Sequence[Taken], places: Sequence[RunPlace], tokenizer: str, shards: Output
) -> Mixture:
    """A stage's mixture, whose counts in the stage's rows are those that were settled."""
    like = _run_of(settled, taken).mixture
    drawn = {one.component: one for one in taken if one.rows}
    mixture = Mixture.of(
        seed=settled.recipe.seed,
        sequence_length=like.sequence_length,
        sequence_align=like.sequence_align,
        layout=like.layout,
        vocab_size=like.vocab_size,
        tokenizer_path=tokenizer,
        tokenizer_hash=like.tokenizer_hash,
        special_ids=like.special_ids,
        shard_table_path=shards.path,
        shard_table_hash=shards.hash,
        runs=tuple(places),
        components=[
            Component(name, float(one.tokens), one.packed.rows, one.packed.tokens, float(one.max_epochs))
            for name, one in drawn.items()
        ],
    )
    rows = [drawn[component.name].rows for component in mixture.components]
    assert mixture.counts(sum(rows)) == rows, "counts in whole proportion are whole"
    return mixture
