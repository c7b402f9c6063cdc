"""How well scores tell positive examples from negative ones: precision, recall and F1, as numbers and as tables."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tokenmill.filters.classifier import NEGATIVE, POSITIVE

#: A text is told to be positive from this score on: of two labels of a softmax, the likelier.
HALF = 0.5
THRESHOLDS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


def figures(scores: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Precision, recall and F1 of both labels at `HALF`, and of the positive at THRESHOLDS as a `min_score`.

    Args:
        scores: of n examples.
        positive: which they are.

    Returns:
        Plain values. A ratio of nothing (a precision where no example is told to be so) is None.
    """
    told = scores >= HALF
    labels = {POSITIVE: _label(told, positive), NEGATIVE: _label(~told, ~positive)}
    thresholds = [
        {"min_score": bound, **_label(scores >= bound, positive), "kept": _ratio((scores >= bound).sum(), len(scores))}
        for bound in THRESHOLDS
    ]
    return {"labels": labels, "thresholds": thresholds}


def _label(told: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> dict[str, Any]:
    right, told_so, there = int((told & true).sum()), int(told.sum()), int(true.sum())
    return {
        "examples": there,
        "precision": _ratio(right, told_so),
        "recall": _ratio(right, there),
        "f1": _ratio(2 * right, told_so + there),
    }


def _ratio(part: Any, whole: int) -> float | None:
    return int(part) / whole if whole else None


def figure_tables(found: Mapping[str, Any], title: str) -> list[Table]:
    """The figures for people."""
    by_label = _table(title, ("label", "examples", "precision", "recall", "F1"))
    for label, row in found["labels"].items():
        by_label.add_row(label, f"{row['examples']:,}", *(_shown(row[name]) for name in ("precision", "recall", "f1")))
    by_bound = _table(f"{title}: what a min_score keeps", ("min_score", "precision", "recall", "kept of all"))
    for row in found["thresholds"]:
        by_bound.add_row(str(row["min_score"]), *(_shown(row[name]) for name in ("precision", "recall", "kept")))
    return [by_label, by_bound]


def example_table(examples: Mapping[str, Mapping[str, int]]) -> Table:
    """Examples by what became of them."""
    table = _table("examples", ("", POSITIVE, NEGATIVE))
    for name, counts in examples.items():
        table.add_row(name, f"{counts[POSITIVE]:,}", f"{counts[NEGATIVE]:,}")
    return table


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    return table


def _shown(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.4f}"
