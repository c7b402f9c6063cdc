"""The mixture: the strata that kept documents are split into, and the weights of their tokens."""

import itertools
import math
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from tokenmill.pipeline.recipe.strict import Fraction, Strict

_BUCKET = re.compile(r"[a-z0-9][a-z0-9_-]*")


class Quality(Strict):
    """Buckets of a signal, such as a classifier's score.

    Attributes:
        signal: "group.signal", such as "classifier.edu.score".
        buckets: by name, rising, the least value of each; the first takes all below, and documents that have none.
    """

    signal: str = Field(pattern=r"^[\w.]+\.\w+$")
    buckets: dict[str, float | None]

    @model_validator(mode="after")
    def _buckets_rise(self) -> "Quality":
        least = list(self.buckets.values())
        if len(least) < 2 or least[0] is not None or not all(_rises(*pair) for pair in itertools.pairwise(least)):
            message = "`buckets` are names with the least value of each, the first null, then rising, such as {example}"
            raise PydanticCustomError("strata", message, {"example": "{low: null, middle: 0.3, high: 0.7}"})
        if odd := [name for name in self.buckets if not _BUCKET.fullmatch(name)]:
            message = "bucket {name} names folders: take lower-case letters, digits, '_' and '-'"
            raise PydanticCustomError("strata", message, {"name": repr(odd[0])})
        return self

    @property
    def group(self) -> str:
        """The signal's group."""
        return self.signal.rpartition(".")[0]

    @property
    def column(self) -> str:
        """The signal's name in its group."""
        return self.signal.rpartition(".")[2]


def _rises(before: float | None, behind: float | None) -> bool:
    return behind is not None and math.isfinite(behind) and (before is None or before < behind)


class Strata(Strict):
    """How a source's kept documents are split into streams that a mixture can weigh without packing again."""

    validation_fraction: Fraction = 0.0
    by: tuple[Literal["language", "quality", "copies"], ...] = ()
    quality: Quality | None = None
    copies: tuple[int, ...] = (1, 2, 5, 10)  # the least number of documents in a cluster, of each range

    @model_validator(mode="after")
    def _copies_rise(self) -> "Strata":
        bounds = self.copies
        if bounds[:1] != (1,) or any(first >= second for first, second in itertools.pairwise(bounds)):
            message = "`copies` is the least size of each range of clusters, rising from 1, such as [1, 2, 5, 10]"
            raise PydanticCustomError("strata", message)
        if "copies" in self.model_fields_set and "copies" not in self.by:
            raise PydanticCustomError("strata", "`copies` gives ranges that nothing uses: put copies into `by` as well")
        return self

    @model_validator(mode="after")
    def _quality_is_told(self) -> "Strata":
        if ("quality" in self.by) != (self.quality is not None):
            message = (
                "strata by quality want both: `by: [quality]`, and a signal with its buckets, `quality: {example}`"
            )
            example = "{signal: classifier.edu.score, buckets: {low: null, high: 0.5}}"
            raise PydanticCustomError("strata", message, {"example": example})
        return self

    @property
    def decided(self) -> dict[str, Any]:
        """What *select* decides by; it comes before *deduplicate*, which counts the copies."""
        by = [name for name in self.by if name != "copies"]
        quality = {"quality": self.quality.model_dump(mode="json")} if self.quality is not None else {}
        return {"validation_fraction": self.validation_fraction, "by": by, **quality}

    @property
    def copies_bounds(self) -> tuple[int, ...] | None:
        """The least size of each range of clusters; None where strata are not by copies."""
        return self.copies if "copies" in self.by else None


class MixtureRecipe(Strict):
    """Shares of training tokens.

    Attributes:
        weights: by source, by component (`source/stratum`), or by what such names begin with.
        rehydrate: a token's weight, by the least size of its range of clusters; else 1.
        tokens: a mixture that can't give so many is not published; None: not asked.
        max_epochs: a plan that repeats a component more often is refused.
        batch_size: rows of the trainer's global batch, or of several: so many of one length come at a time. With
            `sequences: {buckets: …}` alone, which want it.
    """

    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    rehydrate: dict[int, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    tokens: int | None = Field(default=None, gt=0)
    max_epochs: float = Field(default=1.0, gt=0)
    batch_size: int | None = Field(default=None, gt=0)


def claim_of(component: str, names: Iterable[str]) -> str | None:
    """Which name of `mixture.weights` a component belongs to: the longest that it is, or begins with; None: to none."""
    return max((name for name in names if f"{component}/".startswith(f"{name}/")), key=len, default=None)
