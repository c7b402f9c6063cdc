"""Train and evaluate fastText quality classifiers (Joulin et al. 2016, arXiv:1607.01759; used so by DCLM, 2406.11794).

The package `fasttext` trains, in one thread and from lines in an order drawn from the seed, so the same examples and
parameters give the same bytes. Scores are those of our own kernel, the one that a recipe runs. An example is held out
by a hash of its text, so no copy of what is trained on is measured. Texts that stand on both sides say nothing and
are left out. While a model is made the examples lie in a file beside it; in memory there are some 20 bytes of each.
"""

import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.filters.classifier import LABEL_PREFIX, NEGATIVE, POSITIVE
from tokenmill.manifests.keyed import key64, mix64
from tokenmill.pipeline.classifier.examples import (
    U64,
    Bools,
    ExampleFile,
    drawn,
    example_lines,
    find_examples,
    line_key,
    on_both_sides,
)
from tokenmill.pipeline.classifier.figures import figures
from tokenmill.pipeline.classifier.model import Classifier, open_classifier
from tokenmill.pipeline.fasttext_model import CLASSES, parse_fasttext
from tokenmill.pipeline.progress import Reporter
from tokenmill.pipeline.storage import Draft, Storage

PACKAGE = "fasttext-wheel"
INSTALL = "the package fasttext is not installed: pip install 'tokenmill[classifier]' (Python below 3.13)"
_BATCH = 1024
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TrainParams:
    """How a classifier is trained.

    Attributes:
        seed: of the held-out split, the order of the examples and fastText's own start.
        epochs: passes over the examples.
        dim: length of a row of the matrices.
        word_ngrams: longest run of words that is a feature; 1 for words alone.
        learning_rate: at the start; it falls to 0.
        buckets: rows for the hashed runs of words; the model takes (words + buckets) · dim · 4 bytes.
        min_count: a word met less often is none.
        held_out: share of the texts that are measured, not trained on.
    """

    seed: int = 0
    epochs: int = 5
    dim: int = 32
    word_ngrams: int = 2
    learning_rate: float = 0.5
    buckets: int = 1 << 18
    min_count: int = 1
    held_out: float = 0.1

    def __post_init__(self) -> None:
        whole = {"epochs": self.epochs, "dim": self.dim, "word_ngrams": self.word_ngrams, "min_count": self.min_count}
        for name, value in whole.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; give 1 or more")
        if not 0 <= self.held_out < 1 or self.learning_rate <= 0 or not 0 <= self.seed < 1 << 31:
            raise ValueError(
                f"held_out is {self.held_out} (0 … below 1), learning_rate {self.learning_rate} (above 0), "
                f"seed {self.seed} (0 … 2^31 - 1)"
            )
        if self.buckets < (self.word_ngrams > 1):
            raise ValueError(f"buckets is {self.buckets}; runs of {self.word_ngrams} words need at least 1")


@dataclass(frozen=True)
class _Examples:
    """Lines in a draft, and what is known of each: n values an array.

    Attributes:
        draft: the lines, encoded, end to end.
        offsets: (n + 1) where each begins.
        keys: xxh3-64 of each line.
        positive: which kind each is.
    """

    draft: Draft
    offsets: Ints
    keys: U64
    positive: Bools

    def line(self, index: int) -> bytes:
        self.draft.file.seek(int(self.offsets[index]))
        return self.draft.file.read(int(self.offsets[index + 1] - self.offsets[index]))


def train(
    positive: Sequence[str],
    negative: Sequence[str],
    output: str,
    params: TrainParams,
    text_column: str,
    show: Reporter,
    verbose: bool = False,
) -> dict[str, Any]:
    """Train a classifier, write it and its card, `<output>.json`.

    Args:
        positive: paths or patterns of the examples of what is wanted.
        negative: of what is not.
        output: path or URL of the model.
        params: how.
        text_column: key or column of the text.
        show: told how far it is.
        verbose: fastText draws its own bar on standard error.

    Returns:
        The card.

    Raises:
        ValueError: the package is not there; no examples, or none of one kind; a file that cannot be read.
    """
    fasttext = _package()
    inputs = {POSITIVE: find_examples(positive), NEGATIVE: find_examples(negative)}
    folder, slash, name = output.rpartition("/")
    storage = Storage(folder if slash else ".")
    with storage.temporary() as scratch, storage.temporary() as lines, storage.temporary() as model:
        skipped: Counter[str] = Counter()
        examples = _collect(scratch, inputs, text_column, show, skipped)
        used = ~on_both_sides(examples.keys, examples.positive)
        held_out = used & drawn(examples.keys, params.seed, params.held_out)
        chosen = used & ~held_out
        counts = _counts(examples.positive, {"trained on": chosen, "held out": held_out, "on both sides": ~used})
        _need_both(counts["trained on"], inputs, counts)
        _write_lines(lines, examples, chosen, params.seed)
        show.say(f"training on {chosen.sum():,} examples, {params.epochs} epochs")
        _train_model(fasttext, lines, model, params, 2 if verbose else 0)
        classifier = Classifier(parse_fasttext(model.file.read(), output, CLASSES), POSITIVE)
        scores = _scores(classifier, examples, np.flatnonzero(held_out), show)
        card = {
            "inputs": {kind: [asdict(file) for file in files] for kind, files in inputs.items()},
            "examples": {**counts, "without text": {kind: skipped[kind] for kind in inputs}},
            "params": asdict(params),
            "trained_with": f"{PACKAGE} {version(PACKAGE)}",
            "label": POSITIVE,
            "held_out": figures(scores, examples.positive[held_out]),
        }
        stored = model.commit(name)
    card = {"model": {"path": output, "bytes": stored.bytes, "hash": stored.hash}, **card}
    storage.write(f"{name}.json", (json.dumps(card, indent=2) + "\n").encode())
    return card


def evaluate(
    model: str, label: str, positive: Sequence[str], negative: Sequence[str], text_column: str, show: Reporter
) -> dict[str, Any]:
    """Hold a classifier against examples.

    Args:
        model: its path or URL.
        label: that positive examples should have.
        positive: paths or patterns of examples.
        negative: paths or patterns of examples.
        text_column: key or column of the text.
        show: told how far it is.

    Returns:
        As a card, "evaluated" in place of "held_out".

    Raises:
        ValueError: a model or a file that cannot be read; no such label; no examples, or none of one kind.
        FileNotFoundError: there is no such model.
    """
    classifier = open_classifier(model, label)
    inputs = {POSITIVE: find_examples(positive), NEGATIVE: find_examples(negative)}
    skipped: Counter[str] = Counter()
    scores, keys, sides = [np.empty(0)], [np.empty(0, np.uint64)], [np.empty(0, np.bool_)]
    for kind, files in inputs.items():
        found = example_lines(files, text_column, kind, show, skipped)
        while batch := list(islice(found, _BATCH)):
            scores.append(_score_lines(classifier, batch))
            keys.append(np.array([line_key(line.encode()) for line in batch], np.uint64))
            sides.append(np.full(len(batch), kind == POSITIVE))
    is_positive = np.concatenate(sides)
    used = ~on_both_sides(np.concatenate(keys), is_positive)
    counts = _counts(is_positive, {"evaluated": used, "on both sides": ~used})
    _need_both(counts["evaluated"], inputs, counts)
    return {
        "model": {"path": model, "hash": classifier.model.model_hash},
        "inputs": {kind: [asdict(file) for file in files] for kind, files in inputs.items()},
        "examples": {**counts, "without text": {kind: skipped[kind] for kind in inputs}},
        "label": classifier.label,
        "evaluated": figures(np.concatenate(scores)[used], is_positive[used]),
    }


def _package() -> Any:
    """The module, of the one distribution that trains well beside NumPy 2: others of that module give NaN."""
    try:
        version(PACKAGE)
        import fasttext
    except ImportError as error:
        raise ValueError(f"{INSTALL}: {error}") from error
    return fasttext


def _collect(
    scratch: Draft, inputs: Mapping[str, Sequence[ExampleFile]], text_column: str, show: Reporter, skipped: Counter[str]
) -> _Examples:
    sizes, keys, sides = array("q", [0]), array("Q"), array("b")
    for kind, files in inputs.items():
        for line in example_lines(files, text_column, kind, show, skipped):
            data = line.encode()
            scratch.file.write(data)
            sizes.append(len(data))
            keys.append(line_key(data))
            sides.append(kind == POSITIVE)
    offsets = np.cumsum(np.array(sizes, np.int64))
    return _Examples(scratch, offsets, np.array(keys, np.uint64), np.array(sides, np.int8) == 1)


def _counts(positive: Bools, which: Mapping[str, Bools]) -> dict[str, dict[str, int]]:
    return {
        name: {POSITIVE: int((chosen & positive).sum()), NEGATIVE: int((chosen & ~positive).sum())}
        for name, chosen in which.items()
    }


def _need_both(
    counts: Mapping[str, int],
    inputs: Mapping[str, Sequence[ExampleFile]],
    all_counts: Mapping[str, Mapping[str, int]],
) -> None:
    """Raise ValueError where one kind has no example left."""
    for kind, files in inputs.items():
        if not counts[kind]:
            said = ", ".join(f"{number[kind]:,} {name}" for name, number in all_counts.items())
            raise ValueError(
                f"no {kind} example is left in {len(files)} files, {files[0].url} first: {said}; give more texts that "
                "are not among the other kind's"
            )


def _write_lines(lines: Draft, examples: _Examples, chosen: Bools, seed: int) -> None:
    """The chosen examples in an order drawn from the seed: fastText learns from them as they come."""
    indices = np.flatnonzero(chosen)
    for index in indices[np.argsort(mix64(examples.keys[indices], key64("order", seed)), kind="stable")]:
        label = POSITIVE if examples.positive[index] else NEGATIVE
        lines.file.write(f"{LABEL_PREFIX}{label} ".encode() + examples.line(index) + b"\n")
    lines.file.flush()


def _train_model(fasttext: Any, lines: Draft, model: Draft, params: TrainParams, verbose: int) -> None:
    try:
        trained = fasttext.train_supervised(
            input=str(lines.file.name),
            seed=params.seed,
            epoch=params.epochs,
            dim=params.dim,
            wordNgrams=params.word_ngrams,
            lr=params.learning_rate,
            bucket=params.buckets,
            minCount=params.min_count,
            thread=1,
            verbose=verbose,
        )
    except RuntimeError as error:
        raise ValueError(
            f"fastText could not train ({error}); give a lower learning_rate, or other examples"
        ) from error
    trained.save_model(str(model.file.name))
    model.file.seek(0)


def _scores(classifier: Classifier, examples: _Examples, indices: Ints, show: Reporter) -> npt.NDArray[np.float64]:
    found = [np.empty(0)]
    for start in range(0, len(indices), _BATCH):
        lines: Iterator[bytes] = map(examples.line, indices[start : start + _BATCH])
        found.append(_score_lines(classifier, [line.decode() for line in lines]))
        show.step("held out", min(start + _BATCH, len(indices)), len(indices))
    return np.concatenate(found)


def _score_lines(classifier: Classifier, lines: list[str]) -> npt.NDArray[np.float64]:
    column = classifier.signals(pa.array(lines, pa.large_string())).column("score")
    return np.asarray(column.to_numpy(), np.float64)
