"""What stages want of sources, in tokens, and what they take of their components, in rows; see `budgets`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction


@dataclass(frozen=True)
class Wanted:
    """What a stage wants of a source.

    Attributes:
        tokens: its budget; None where it has a weight.
        weight: its weight; None where it has a budget.
        max_epochs: how often it may be visited up to the end of the stage.
        strata: weights of its tokens, by parts of the stratum's name.
    """

    tokens: int | None
    weight: Fraction | None
    max_epochs: Fraction = Fraction(1)
    strata: Mapping[str, Fraction] = field(default_factory=dict)


@dataclass(frozen=True)
class WantedStage:
    """What a stage wants.

    Attributes:
        sources: by name.
        tokens: of all; None: the sum of budgets, or as many as weights can get in the only stage.
        batch_rows: its rows are a multiple of it.
    """

    sources: Mapping[str, Wanted]
    tokens: int | None = None
    batch_rows: int = 1


@dataclass(frozen=True)
class Packed:
    """What there is of a component: rows, and the tokens in them that are not padding."""

    rows: int
    tokens: int


@dataclass(frozen=True)
class Taken:
    """What a stage takes of a component.

    Attributes:
        component: its name.
        packed: what there is.
        asked: tokens that were asked for.
        max_epochs: as wanted.
        before: rows that earlier stages take.
        rows: that this one takes; perhaps 0.
    """

    component: str
    packed: Packed
    asked: Fraction
    max_epochs: Fraction
    before: int
    rows: int

    @property
    def tokens(self) -> Fraction:
        """In these rows, on average."""
        return Fraction(self.rows * self.packed.tokens, self.packed.rows)
