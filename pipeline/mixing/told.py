"""A settled mixture as people see it: of each stage what there is, what was asked, and what is taken."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tokenmill.manifests.stages import source_of
from tokenmill.manifests.wanted import Packed, Taken
from tokenmill.pipeline.mixing.settled import Settled

_COLUMNS = ("available", "asked", "rows", "epochs", "at most", "share")


def as_json(settled: Settled) -> dict[str, Any]:
    """What is settled, in plain values."""
    return {
        "name": settled.recipe.name,
        "runs": [run.url for run in settled.runs],
        "stages": [
            [
                {
                    "component": one.component,
                    "available_tokens": one.packed.tokens,
                    "available_rows": one.packed.rows,
                    "asked_tokens": float(one.asked),
                    "tokens": float(one.tokens),
                    "rows": one.rows,
                    "rows_before": one.before,
                    "max_epochs": float(one.max_epochs),
                }
                for one in taken
            ]
            for taken in settled.stages
        ],
        "held_out_rows": {name: packed.rows for name, packed in sorted(settled.held_out.items())},
        "left_out_rows": dict(settled.left_out),
        "not_in_it": list(settled.unnamed),
        "parts_in_common": [[*names, parts] for names, parts in settled.twice.items()],
    }


def tables(settled: Settled) -> Iterator[Table]:
    """A table a stage: a line a source, and one a stratum where these have weights."""
    wanted = settled.recipe.listed
    for index, (stage, taken) in enumerate(zip(wanted, settled.stages, strict=True)):
        title = f"{settled.recipe.name}" + (f", stage {index}" if len(wanted) > 1 else "")
        table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("source", overflow="fold")
        for column in _COLUMNS:
            table.add_column(column, justify="right", no_wrap=True)
        whole = sum((one.tokens for one in taken), Fraction(0))
        for name, source in stage.sources.items():
            mine = [one for one in taken if source_of(one.component) == name]
            table.add_row(name, *_cells(mine, whole))
            for one in mine if source.strata else ():
                table.add_row(f"  {one.component.partition('/')[2]}", *_cells([one], whole), style="dim")
        table.add_section()
        rows = sum(one.rows for one in taken)
        asked = sum((one.asked for one in taken), Fraction(0))
        table.add_row("all", "", f"{round(asked):,}", f"{rows:,}", "", "", "100.00 %")
        yield table


def _cells(some: Sequence[Taken], whole: Fraction) -> Iterator[str]:
    """Of components together; epochs of all stages so far, those of the one that is repeated most."""
    epochs = max(Fraction(one.before + one.rows, one.packed.rows) for one in some)
    tokens = sum((one.tokens for one in some), Fraction(0))
    yield f"{sum(one.packed.tokens for one in some):,}"
    yield f"{round(sum(one.asked for one in some)):,}"
    yield f"{sum(one.rows for one in some):,}"
    yield f"{float(epochs):.3f}"
    yield f"{float(some[0].max_epochs):g}"
    yield f"{float(100 * tokens / whole):.2f} %"


def lines(settled: Settled) -> Iterator[str]:
    """What else is in the mixture, and what is not."""
    lengths = sorted({run.mixture.sequence_length for run in settled.runs})
    yield f"rows of {' and '.join(f'{length:,}' for length in lengths)} tokens, epochs counted from the first stage on"
    if settled.recipe.validation:
        yield f"held out: {_rows(settled.held_out.values())} rows of {len(settled.held_out)} components"
    else:
        yield "held out: nothing, as the recipe says"
    for why, rows in settled.left_out.items():
        yield f"left out: {rows:,} held-out rows of {why}"
    for (one, other), parts in settled.twice.items():
        yield f"{one} and {other} have {parts:,} parts of raw files of the same names: do their documents come twice?"
    if settled.unnamed:
        yield f"not in it, since the recipe does not name them: {', '.join(settled.unnamed)}"


def _rows(packed: Iterable[Packed]) -> str:
    return f"{sum(one.rows for one in packed):,}"
