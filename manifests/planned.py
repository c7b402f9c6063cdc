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
        rows_total: global rows, of which each length has its share, but for what is rounded to whole batches. By
            default as many batches as the shares fill in the longest plan that every component's `max_epochs` allows;
            what is over is left out.

    Raises:
        ValueError: `rows_total` is not whole batches, or more than `max_epochs` allows; says what is.
    """
    size = mixture.batch_size
    assert size is not None
    most = {length: most_rows(mixture.of_length(length)) for length in mixture.lengths}
    if rows_total is None:
        rows = _by_length(mixture, mixture.counts(most_rows(mixture)))
        return {length: min(rows[length], most[length]) // size for length in most}
    if rows_total < 1 or rows_total % size:
        near = max(size, rows_total // size * size)
        raise ValueError(
            f"a plan of {rows_total} rows is asked for, and rows of one length come {size} at a time: give {near} or "
            f"{near + size}"
        )
    weights = _row_weights(mixture)
    total = rows_total // size
    if _too_many(total, weights, most, size):
        fits = bisect_right(range(total), False, key=lambda batches: _too_many(batches, weights, most, size)) - 1
        raise ValueError(_refusal(rows_total, fits * size, weights, most, size))
    batches = dict(zip(most, Split(list(weights.values())).counts(total), strict=True))
    batches = {length: min(batches[length], most[length] // size) for length in most}
    for length in sorted(most, key=lambda length: batches[length] - most[length] // size):  # those that can give more
        batches[length] = min(batches[length] + total - sum(batches.values()), most[length] // size)
    return batches


def _too_many(batches: int, weights: Mapping[int, int], most: Mapping[int, int], size: int) -> bool:
    """Whether a length's share of so many batches is more rows than it may give, or all have fewer whole ones."""
    whole = sum(weights.values())
    over = any(batches * size * weights[length] > most[length] * whole for length in most)
    return over or batches > sum(rows // size for rows in most.values())


def _refusal(asked: int, fits: int, weights: Mapping[int, int], most: Mapping[int, int], size: int) -> str:
    """The text that says why so many rows are refused."""
    shares = {length: asked * weight // sum(weights.values()) for length, weight in weights.items()}
    over = [
        f"{share} of {length} tokens, of which max_epochs allows {most[length]}"
        for length, share in shares.items()
        if share > most[length]
    ]
    fills = sum(rows // size * size for rows in most.values())
    return (
        f"a plan of {asked} rows takes {', '.join(over) or f'more than the {fills} that fill batches'}, in batches of "
        f"{size}. Plan at most {fits} rows, or raise max_epochs, or ask for no number: each length gives all it has"
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
