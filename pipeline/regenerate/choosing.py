"""The answers of prompts → the one that is taken of each, or the reason why none is."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from tokenmill.pipeline.classifier.model import open_classifier
from tokenmill.pipeline.recipe.regenerate import Choose, Regenerate
from tokenmill.pipeline.regenerate.checkers import is_right, without_reasoning
from tokenmill.pipeline.regenerate.prompts import Prompt

#: Ends of answers that are not whole, beside "length".
_BROKEN_OFF = ("content_filter", "abort", "error")
CUT_OFF, EMPTY, NONE_RIGHT, LOW_SCORE = (
    f"regenerate.{name}" for name in ("cut_off", "empty", "none_right", "min_score")
)
FAILED = "regenerate.failed."


class Sample(NamedTuple):
    """One answer to a prompt.

    Attributes:
        number: of the sample.
        row: of ASKED.
        message: the answer's; None where there is none.
        text: its content, reasoning taken out.
        reason: why it may not be chosen; None: it may.
    """

    number: int
    row: Mapping[str, Any]
    message: Mapping[str, Any] | None
    text: str
    reason: str | None


class Fate(NamedTuple):
    """What became of a prompt.

    Attributes:
        sample: what is chosen; None: nothing.
        score: that it was chosen by, of a classifier.
        reason: why nothing is chosen.
        detail: for people.
    """

    sample: Sample | None
    score: float | None = None
    reason: str | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Asked:
    """A prompt and its answers, by sample number."""

    prompt: Prompt
    samples: Sequence[Sample]


#: Chooses for many prompts at once.
Chooser = Callable[[Sequence[Asked]], list[Fate]]


def sample_of(settings: Regenerate, number: int, row: Mapping[str, Any]) -> Sample:
    """An answer as the ledger has it, and whether it may be chosen."""
    if row["message"] is None:
        return Sample(number, row, None, "", FAILED + row["failure"])
    message = json.loads(row["message"])
    text = without_reasoning(message.get("content") or "").strip()
    reason = None
    if row["finish_reason"] == "length" and not settings.keep_cut_off:
        reason = CUT_OFF
    elif row["finish_reason"] in _BROKEN_OFF:
        reason = f"regenerate.{row['finish_reason']}"
    elif not text and not message.get("tool_calls"):
        reason = EMPTY
    return Sample(number, row, message, text, reason)


def chooser_of(choose: Choose) -> Chooser:
    """What chooses as the recipe says.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: it cannot be read, or has no such label.
    """
    if choose.by == "verifiable":
        return _first_right
    if choose.by == "classifier":
        return _best_scored(choose)
    return _first


def _first(asked: Sequence[Asked]) -> list[Fate]:
    return [_taken(each, _whole(each)) for each in asked]


def _first_right(asked: Sequence[Asked]) -> list[Fate]:
    found: list[Fate] = []
    for each in asked:
        checker, expected = each.prompt.checker, each.prompt.conversation.answer
        assert checker is not None
        assert expected is not None
        whole = _whole(each)
        right = [sample for sample in whole if is_right(checker, expected, sample.text)]
        none = Fate(None, reason=NONE_RIGHT, detail=f"none of {len(whole)} whole answers is right ({checker})")
        found.append(none if whole and not right else _taken(each, right))
    return found


def _best_scored(choose: Choose) -> Chooser:
    assert choose.model is not None
    classifier = open_classifier(choose.model, choose.label)

    def chosen(asked: Sequence[Asked]) -> list[Fate]:
        whole = [_whole(each) for each in asked]
        texts = pa.array([sample.text for samples in whole for sample in samples], pa.large_string())
        scores = iter(classifier.signals(texts, choose.max_bytes).column("score").to_pylist())
        found: list[Fate] = []
        for each, samples in zip(asked, whole, strict=True):
            scored = [(next(scores), sample) for sample in samples]
            score, best = max(scored, key=lambda pair: pair[0], default=(None, None))  # of equal ones the first
            fate = _taken(each, [best] if best is not None else [])._replace(score=score)
            if score is not None and choose.min_score is not None and score < choose.min_score:
                fate = Fate(None, score, LOW_SCORE, f"the best of {len(samples)} whole answers scores {score:.4f}")
            found.append(fate)
        return found

    return chosen


def _whole(asked: Asked) -> list[Sample]:
    """The answers that may be chosen."""
    return [sample for sample in asked.samples if sample.reason is None]


def _taken(asked: Asked, samples: Sequence[Sample]) -> Fate:
    """The first of some samples; of none, why no sample could be chosen: what came of answers, before failures."""
    if samples:
        return Fate(samples[0])
    told = sorted(asked.samples, key=lambda sample: sample.message is None)[0]
    return Fate(None, reason=told.reason, detail=told.row["detail"])
