"""Stages of a training run as they are asked for, opened: their mixtures and shard tables, and the plan of all."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pyarrow as pa

from tokenmill.manifests.mixture import Mixture
from tokenmill.manifests.plan import Plan, compile_plan, compile_stages
from tokenmill.manifests.stages import MixtureStage, check_stages
from tokenmill.pipeline.loader.compiled import table_packings
from tokenmill.pipeline.loader.roots import RunRoots, root_at
from tokenmill.pipeline.storage import Storage


@dataclass(frozen=True)
class Stage:
    """So many rows of a mixture. Stages follow each other; a list of them is only ever added to, see `open_mixture`.

    Attributes:
        path_or_url: as `open_mixture` takes it; stages may be of several runs. A mix of several stages stands for them
            all, in their rows.
        rows: global rows; None: as many as every component's `max_epochs` allows after the stages before.
        at: global row it begins at, which cuts short those before it; None: where they end.
    """

    path_or_url: str
    rows: int | None = None
    at: int | None = None


@dataclass(frozen=True)
class Opened:
    """A mixture, checked against its name, where it lies, and its shard table."""

    storage: Storage
    mixture: Mixture
    shards: pa.Table

    @property
    def roots(self) -> Storage | RunRoots:
        """What the shard table's paths are under."""
        if not self.mixture.runs:
            return self.storage
        return RunRoots([Storage(root_at(run.place, self.storage.root)) for run in self.mixture.runs])


def plan_of(
    stages: Sequence[Stage], opened: Sequence[Opened], window_bytes: int | None, repeats: Collection[str]
) -> Plan:
    """The plan of stages that are opened; see `compile_stages` and `check_stages` for what is refused."""
    tables = {one.mixture.shard_table_hash: one.shards for one in opened}
    packings = {name: table_packings(table) for name, table in tables.items()} if len(tables) > 1 else {}
    asked = [
        MixtureStage(one.mixture, stage.rows, stage.at, packings.get(one.mixture.shard_table_hash, {}), where)
        for stage, one in zip(stages, opened, strict=True)
        for where in [one.storage.url(one.mixture.path)]
    ]
    check_stages(asked, repeats)
    if len(asked) == 1 and asked[0].at is None:
        return compile_plan(asked[0].mixture, asked[0].rows, window_bytes)
    return compile_stages(asked, window_bytes)


def check_batch_size(plan: Plan, batch_size: int) -> None:
    """Refuse a batch size with which a stage, or a batch of another length, does not begin on a global batch."""
    if plan.interleaving is not None:
        if plan.interleaving.size % batch_size:
            raise ValueError(
                f"batch_size is {batch_size}, and rows of one length come {plan.interleaving.size} at a time, the "
                "recipe's mixture.batch_size: take a divisor of that, or publish with another (nothing is packed again)"
            )
        return
    for before, stage in zip(plan.stages, plan.stages[1:], strict=False):
        rows = stage.first_row - before.first_row
        if stage.first_row % batch_size:
            near = (rows + before.first_row) // batch_size * batch_size - before.first_row
            raise ValueError(
                f"stage {before.index} has {rows} rows, so that stage {stage.index} begins at row {stage.first_row}, "
                f"within a global batch of {batch_size} rows: give it {near} or {near + batch_size} rows, or say at="
                f"{near + before.first_row} of stage {stage.index}"
            )


def check_row(plan: Plan, row: int, shared: int | None, batch_size: int) -> None:
    """Refuse to go on from a row that the plan did not share with the state's, or from which batches cross stages.

    Args:
        plan: to go on with.
        row: the next one.
        shared: first rows that the two plans have in common.
        batch_size: rows of a global batch.
    """
    if shared is not None and row > shared:
        raise ValueError(
            f"the state's next_row is {row}, but this plan leaves the state's plan at row {shared}: rows after it were "
            f"others. Begin the new stage at {row} or later (at={row})"
        )
    if plan.interleaving is not None:
        if row % batch_size:
            raise ValueError(
                f"from the state's next_row {row}, global batches of {batch_size} rows do not end where each "
                f"{plan.interleaving.size} rows of one length do: take a batch_size that divides both"
            )
        return
    for stage in () if plan.stored else plan.stages:
        left = stage.first_row - row
        if left > 0 and left % batch_size:
            raise ValueError(
                f"from the state's next_row {row}, global batches of {batch_size} rows do not end where stage "
                f"{stage.index} begins, at row {stage.first_row}: take a batch_size that divides {left}"
            )
