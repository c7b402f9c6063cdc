"""How many rows a plan of a mixture takes of each component; and how many batches, where rows have several lengths."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from fractions import Fraction

from tokenmill.manifests.limits import most_rows
from tokenmill.manifests.mixture import Mixture
from tokenmill.manifests.split import Split


def planned_rows(mixture: Mixture, rows_total: int | None = None) -> dict[str, int]:
    """Rows of each component, by name, in the mixture's order, that `compile_plan` with these arguments takes.

    Raises:
        ValueError: rows of several lengths, and so many cannot be taken; see `batches_of`.
    """
    if mixture.batch_size is None:
        counts = mixture.counts(most_rows(mixture) if rows_total is None else rows_total)
        return {component.name: count for component, count in zip(mixture.components, counts, strict=True)}
    found: dict[str, int] = {}
    for length, batches in batches_of(mixture, rows_total).items():
        mine = mixture.of_length(length)
        counts = mine.counts(batches * mixture.batch_size)
        found |= {component.name: count for component, count in zip(mine.components, counts, strict=True)}
    return {component.name: found[component.name] for component in mixture.components}


def rows_of_tokens(mixture: Mixture, tokens: int) -> int:
    """The least rows that have room for so many tokens; of several lengths whole batches, shared out."""
    if mixture.batch_size is None:
        return -(-tokens // mixture.sequence_length)
    weights = _row_weights(mixture)
    row_tokens = Fraction(sum(length * weight for length, weight in weights.items()), sum(weights.values()))
    return mixture.batch_size * math.ceil(tokens / (row_tokens * mixture.batch_size))


def batches_of(mixture: Mixture, rows_total: int | None = None) -> dict[int, int]:
    """Batches of each length of a mixture that has several, by length, rising; 0 where its rows fill none.

    Args:
        mixture: has a `batch_size`.
        rows_total: global rows; by default each length has the batches that its share fills, of the longest plan that
            every component's `max_epochs` allows, and what is over is left out.

    Raises:
        ValueError: `rows_total` is not whole batches, or more than `max_epochs` allows; says what is.
    """
    size = mixture.batch_size
    assert size is not None
    most = {length: most_rows(mixture.of_length(length)) // size for length in mixture.lengths}
    if rows_total is None:
        rows = _by_length(mixture, mixture.counts(most_rows(mixture)))
        return {length: min(rows[length] // size, most[length]) for length in mixture.lengths}
    if rows_total < 1 or rows_total % size:
        near = max(size, rows_total // size * size)
        raise ValueError(
            f"a plan of {rows_total} rows is asked for, and rows of one length come {size} at a time: give {near} or "
            f"{near + size}"
        )
    split = Split(list(_row_weights(mixture).values()))
    asked = dict(zip(mixture.lengths, split.counts(rows_total // size), strict=True))
    if any(asked[length] > most[length] for length in asked):
        raise ValueError(_refusal(split, asked, most, size))
    return asked


def _refusal(split: Split, asked: Mapping[int, int], most: Mapping[int, int], size: int) -> str:
    """The text that says why so many batches are refused."""

    def too_many(batches: int) -> bool:
        return any(count > limit for count, limit in zip(split.counts(batches), most.values(), strict=True))

    total = sum(asked.values())
    fits = bisect_right(range(total), False, key=too_many) - 1
    over = ", ".join(
        f"{count * size} of {length} tokens, of which max_epochs allows {most[length] * size}"
        for length, count in asked.items()
        if count > most[length]
    )
    return (
        f"a plan of {total * size} rows takes {over}, in batches of {size}. Plan at most {fits * size} rows, or raise "
        "max_epochs, or ask for no number: then each length gives what it has"
    )


def _row_weights(mixture: Mixture) -> dict[int, int]:
    """Row weight of all components of each length."""
    return _by_length(mixture, mixture.row_weights)


def _by_length(mixture: Mixture, values: Sequence[int]) -> dict[int, int]:
    """One value a component, added up by length."""
    found = dict.fromkeys(mixture.lengths, 0)
    for component, value in zip(mixture.components, values, strict=True):
        found[mixture.length_of(component)] += value
    return found
