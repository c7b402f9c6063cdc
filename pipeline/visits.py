"""How often training sees what a run of conversations has packed, and how much of what it learns is EOS."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tokenmill.manifests.lengths import in_words
from tokenmill.manifests.mixture import Mixture
from tokenmill.manifests.planned import batches_of, planned_rows
from tokenmill.manifests.shards import DIALOGUE
from tokenmill.pipeline.loader.published import read_mixture
from tokenmill.pipeline.steps.publish import Published
from tokenmill.pipeline.storage import Storage

#: Components in the table that people read.
_SHOWN = 40


class Visits(NamedTuple):
    """A component's rows in the longest plan that every `max_epochs` allows.

    Attributes:
        component: "source/stratum".
        rows: stored.
        planned: taken, over all visits.
        max_epochs: visits at most.
    """

    component: str
    rows: int
    planned: int
    max_epochs: float

    @property
    def mean(self) -> float:
        """Mean visits of a row."""
        return self.planned / self.rows


def mixture_of_conversations(storage: Storage, published: Published) -> Mixture | None:
    """The mixture of a run of conversations; None for any other run, or where nothing was kept for training."""
    path = published.value["mixture"]
    if path is None or "template" not in published.value:
        return None
    return read_mixture(storage, path)


def visits_of(mixture: Mixture) -> list[Visits]:
    """Of each component, in the mixture's order."""
    planned = planned_rows(mixture)
    return [Visits(one.name, one.rows, planned[one.name], one.max_epochs) for one in mixture.components]


def left_out(mixture: Mixture) -> list[str]:
    """Lines for people: rows of several lengths of which no plan takes any, since they fill no batch."""
    if mixture.batch_size is None:
        return []
    rows = dict.fromkeys(mixture.lengths, 0)
    for component in mixture.components:
        rows[mixture.length_of(component)] += component.rows
    return [
        f"training takes none of {rows[length]:,} rows of {length:,} tokens: at max_epochs they fill no batch of "
        f"{mixture.batch_size:,}; give a smaller mixture.batch_size, or other `buckets`"
        for length, batches in batches_of(mixture).items()
        if not batches
    ]


def eos_of_filled_rows(mixture: Mixture, balance: Mapping[str, Any]) -> tuple[int, int] | None:
    """Tokens that objective `llada_sft` supervises in all rows, and those of them that are EOS; None in other layouts.

    It fills rows up with EOS and learns that too. Of a dialogue of several turns it draws one a visit, and fills up
    behind that; here the last one counts, with the answers before it: a bit less EOS than it comes to.
    """
    if mixture.layout != DIALOGUE:
        return None
    sheets = [sheet for sheet in balance.values() if sheet.get("roles")]
    padding = sum(sheet["padding_tokens"] for sheet in sheets)
    answers, ends = (sum(sheet["roles"][name] for sheet in sheets) for name in ("answer_tokens", "answer_eos_tokens"))
    return answers + padding, ends + padding


def as_json(mixture: Mixture, balance: Mapping[str, Any]) -> dict[str, Any]:
    """Both as plain values."""
    filled = eos_of_filled_rows(mixture, balance)
    listed = [{**each._asdict(), "mean_visits": each.mean} for each in visits_of(mixture)]
    told = None if filled is None else {"supervised_tokens": filled[0], "eos_tokens": filled[1]}
    return {"visits": listed, "llada_sft": told}


def print_visits(mixture: Mixture, balance: Mapping[str, Any], console: Console) -> None:
    """Print both for people."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("component", overflow="fold")
    for name in ("rows", "taken", "mean visits", "at most"):
        table.add_column(name, justify="right")
    listed = visits_of(mixture)
    for each in listed[:_SHOWN]:
        table.add_row(each.component, f"{each.rows:,}", f"{each.planned:,}", f"{each.mean:.3f}", f"{each.max_epochs:g}")
    if len(listed) > _SHOWN:
        table.add_row(f"({len(listed) - _SHOWN:,} more)", "", "", "", "")
    told = f"visits, in {sum(each.planned for each in listed):,} rows of training, as many as every max_epochs allows"
    if mixture.batch_size is not None:
        told += f" in batches of {mixture.batch_size:,} rows of one length, {in_words(mixture.lengths)} tokens"
    console.print(f"\n{told}", highlight=False)
    console.print(table)
    for line in left_out(mixture):
        console.print(line, highlight=False)
    if filled := eos_of_filled_rows(mixture, balance):
        share = 100 * filled[1] / max(1, filled[0])
        console.print(
            f"llada_sft fills rows up with EOS and learns it: {share:.2f} % of the tokens that it supervises are EOS, "
            "or more where dialogues have several turns",
            highlight=False,
        )
