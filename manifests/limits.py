"""How many rows a mixture can give: `max_epochs`, held over all stages of a plan together."""

from collections.abc import Sequence
from fractions import Fraction

from tokenmill.manifests.mixture import Component, Mixture


def most_rows(mixture: Mixture, before: Sequence[int] | None = None) -> int:
    """The longest stage in which no component is repeated more than its `max_epochs`.

    Args:
        mixture: what it draws from.
        before: rows taken of each component by earlier stages; by default none.
    """
    taken = [0] * len(mixture.components) if before is None else before
    limits = [component.row_limit - used for component, used in zip(mixture.components, taken, strict=True)]
    fits, too_many = 0, sum(max(0, limit) for limit in limits) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if all(count <= max(0, limit) for count, limit in zip(mixture.counts(middle), limits, strict=True)):
            fits = middle
        else:
            too_many = middle
    return fits


def check_epochs(mixture: Mixture, rows: int, before: Sequence[int], index: int = 0) -> None:
    """Refuse a stage without rows, or one that repeats a component too often.

    Args:
        mixture: what it draws from.
        rows: how many.
        before: rows taken of each component by earlier stages.
        index: of the stage.

    Raises:
        ValueError: what was asked, what there is, which component limits it, and two remedies with values.
    """
    what = f"stage {index} of" if index else "a plan of"
    if rows < 1:
        raise ValueError(f"{what} {rows} rows has nothing to train on: ask for at least 1 row, or raise max_epochs")
    needed = zip(mixture.components, mixture.counts(rows), before, strict=True)
    over = [(c, count + used, used) for c, count, used in needed if count and count + used > c.row_limit]
    if over:
        raise ValueError(_refusal(what, mixture, rows, over, before))


def _refusal(
    what: str, mixture: Mixture, rows: int, over: Sequence[tuple[Component, int, int]], before: Sequence[int]
) -> str:
    """The text that says why a plan is refused.

    Args:
        what: is refused.
        mixture: of the stage.
        rows: it asks for.
        over: the components asked for too often, their rows with this stage, and without.
        before: rows of all components taken by earlier stages.
    """
    limiting, count, used = max(over, key=lambda item: (Fraction(item[1], max(1, item[0].row_limit)), item[0].name))
    epochs = ", ".join(f"{c.name!r}: {-(-asked * 1000 // c.rows) / 1000}" for c, asked, _ in over)
    earlier = f" (of these {used} in earlier stages)" if used else ""
    most = most_rows(mixture, before)
    return (
        f"{what} {rows} rows takes {count} of component {limiting.name!r}{earlier}, {count / limiting.rows:.3f} "
        f"epochs; it has {limiting.rows} rows and max_epochs {limiting.max_epochs}, which allows {limiting.row_limit}, "
        f"and limits the mixture most, of {len(over)} component(s) repeated too often. Either plan at most {most} "
        f"rows, or raise max_epochs to at least {{{epochs}}}"
    )
