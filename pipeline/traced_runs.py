"""The runs that rows are traced to: the mixture's own, or each of several when a row of it is asked for."""

from dataclasses import dataclass

from tokenizers import Tokenizer

from tokenmill.manifests.mixture import RunPlace
from tokenmill.pipeline.erase import tombstones
from tokenmill.pipeline.loader.opening import OpenedOrder
from tokenmill.pipeline.loader.roots import root_at
from tokenmill.pipeline.opened import OpenedRun, open_run
from tokenmill.pipeline.opened_units import OpenedUnits, open_units
from tokenmill.pipeline.sheet import published_or_error
from tokenmill.pipeline.steps.publish import Published, read_version, versions
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.traced import TracedRow


@dataclass(frozen=True)
class TracedRun:
    """A version of a run, opened to trace rows to.

    Attributes:
        run: the version.
        units: of that version.
        removed: units of the newest version, which knows of all takedowns; None where there was none.
    """

    run: OpenedRun
    units: OpenedUnits
    removed: OpenedUnits | None


class Opened:
    """A mixture opened to trace rows of.

    Attributes:
        mixture: its order and shard tables.
        own: the run that the mixture is of; None where it names its runs.
        tokenizer: None where no text is wanted.
    """

    def __init__(self, mixture: OpenedOrder, own: TracedRun | None, tokenizer: Tokenizer | None) -> None:
        self.mixture = mixture
        self.own = own
        self.tokenizer = tokenizer
        self._runs: dict[str, TracedRun] = {}

    def run_of(self, stage: int, path: str) -> tuple[TracedRun, RunPlace | None]:
        """The run that a shard of one of the plan's stages is of, and what the mixture says of it."""
        if self.own is not None:
            return self.own, None
        opened = self.mixture.stages[self.mixture.order.plan.stages[stage].index]
        place = opened.mixture.runs[int(path.partition("/")[0])]
        storage = Storage(root_at(place.place, opened.storage.root))
        name = storage.url(place.manifest)
        if name not in self._runs:
            self._runs[name] = open_traced(storage, place.manifest)
        return self._runs[name], place

    def run_of_row(self, row: TracedRow) -> TracedRun:
        """The run of a row that was traced."""
        return self._runs[row.run] if self.own is None else self.own


def open_traced(storage: Storage, version: str) -> TracedRun:
    """Open a published version by the path of its manifest.

    Raises:
        ValueError: it is no longer there; says what was erased.
    """
    newest = published_or_error(storage)
    if version not in versions(storage):
        raise ValueError(f"{storage.root!r} has no version {version} any more{erased(storage)}")
    published = newest if version == newest.path else read_version(storage, version)
    run = open_run(storage, published)
    units = open_units(storage, published, run.recipe_file.recipe)
    removed = None
    if newest.value.get("removals"):
        removed = open_units(storage, newest, open_run(storage, newest).recipe_file.recipe)
    return TracedRun(run, units, removed)


def published_with(storage: Storage, newest: Published, mixture: str) -> Published:
    """The newest version that names the mixture."""
    for path in reversed(versions(storage)):
        published = newest if path == newest.path else read_version(storage, path)
        if published.value["mixture"] == mixture:
            return published
    raise ValueError(
        f"no published version of {storage.root!r} has mixture {mixture}, the newest has {newest.value['mixture']}"
        + erased(storage)
    )


def erased(storage: Storage) -> str:
    """What to say of versions that takedowns erased; "" where there are none."""
    stones = [str(stone["version"]) for stone in tombstones(storage)]
    return f"; after takedowns these were erased: {', '.join(stones)}" if stones else ""
