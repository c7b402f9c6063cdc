"""Deduplication: what counts as a duplicate, and which of several documents survives."""

import difflib
import functools
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from tokenmill.dedup.bands import optimal_bands
from tokenmill.dedup.minhash import MinHashParams
from tokenmill.dedup.survivor_order import LONGEST, PRIORITY, TERMS
from tokenmill.pipeline.recipe.strict import Fraction, Strict

_SIGNAL = re.compile(r"\w+(\.\w+)+")
_MISS_WEIGHT = 19  # a missed pair stays for good, a candidate too many costs one comparison
_optimal_bands = functools.cache(optimal_bands)


def _survivor_term(term: Any) -> str:
    if isinstance(term, Mapping) and list(term) == ["quality"]:
        signal = term["quality"]
        if isinstance(signal, str) and _SIGNAL.fullmatch(signal):
            return signal
        message = "`quality` names a signal as group.signal, such as classifier.edu.score, not {found}"
        raise PydanticCustomError("survivor", message, {"found": repr(signal)})
    if isinstance(term, str) and (term in TERMS or _SIGNAL.fullmatch(term)):  # a signal as this model writes it
        return term
    near = difflib.get_close_matches(str(term), TERMS, n=1, cutoff=0.0)[0]
    message = "no term {found}: did you mean '{near}'? known: {known} and `quality: group.signal`"
    raise PydanticCustomError("survivor", message, {"found": repr(term), "near": near, "known": ", ".join(TERMS)})


class Dedup(Strict):
    """Exact, then MinHash verified by signature or on the text.

    Without bands and rows the threshold settles them (14 × 8 at 0.8 of 112): `optimal_bands`, a pair that is missed
    counting 19 times as much as a candidate that verification refuses.
    """

    exact: bool = True
    near: bool = True
    num_permutations: int = 112
    bands: int | None = None
    rows: int | None = None
    ngram_words: int = 5
    ngram_characters: int | None = None
    keep_digits: bool = False
    threshold: Fraction = 0.8
    verify: Literal["signature", "text"] = "signature"
    of: Literal["text", "prompt", "answer"] = "text"  # of conversations, what the users or the assistants say
    bucket_limit: int = Field(default=64, ge=2)
    against: tuple[str, ...] = ()  # folders of earlier runs: what one of them kept is removed here
    survivor: tuple[str, ...] = (PRIORITY, LONGEST)  # terms; a signal, `quality: classifier.edu.score`, as its name

    @field_validator("survivor", mode="before")
    @classmethod
    def _terms(cls, value: Any) -> Any:
        """`[priority, {quality: classifier.edu.score}, longest]` → names of terms and signals."""
        if not isinstance(value, list | tuple):
            raise PydanticCustomError("survivor", "give a list, such as `[priority, longest]`")
        terms = [_survivor_term(term) for term in value]
        for term in terms:
            if terms.count(term) > 1:
                raise PydanticCustomError("survivor", "{term} stands twice", {"term": term})
        return tuple(terms)

    @model_validator(mode="after")
    def _consistent(self) -> "Dedup":
        if (self.bands is None) != (self.rows is None):
            one, other = ("bands", "rows") if self.rows is None else ("rows", "bands")
            raise PydanticCustomError(
                "dedup",
                "{one} is given and {other} is not: give both, or neither for those that suit the threshold",
                {"one": one, "other": other},
            )
        if self.ngram_characters is not None and "ngram_words" in self.model_fields_set:
            raise PydanticCustomError("dedup", "shingles are of ngram_words or of ngram_characters: give one of them")
        try:
            _ = self.minhash
        except ValueError as error:
            raise PydanticCustomError("dedup", "{error}", {"error": str(error)}) from error
        return self

    @property
    def minhash(self) -> MinHashParams:
        """The parameters of the signature and its verification."""
        bands, rows = self.bands, self.rows
        if bands is None or rows is None:
            bands, rows = _optimal_bands(self.threshold, self.num_permutations, _MISS_WEIGHT)
        return MinHashParams(
            num_permutations=self.num_permutations,
            bands=bands,
            rows=rows,
            ngram_words=self.ngram_words,
            threshold=self.threshold,
            ngram_characters=self.ngram_characters,
            keep_digits=self.keep_digits,
        )
