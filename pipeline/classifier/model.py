"""A fastText classifier as a recipe names one: a model and the label that is scored."""

from dataclasses import dataclass

import pyarrow as pa

from tokenmill.filters.classifier import classifier_signals, label_column
from tokenmill.filters.fasttext import FastTextModel
from tokenmill.pipeline.fasttext_model import CLASSES, load_fasttext

#: Group names begin with it: `classifier.<name>`.
CLASSIFIERS = "classifier."


@dataclass(frozen=True)
class Classifier:
    """A model and the label that is scored.

    Attributes:
        model: the tables.
        label: its name, without `__label__`.
    """

    model: FastTextModel
    label: str

    def signals(self, texts: pa.LargeStringArray, max_bytes: int | None = None) -> pa.RecordBatch:
        """The label's score for every text: rows of CLASSIFIER."""
        return classifier_signals(texts, self.model, label_column(self.model.labels, self.label), max_bytes)


def open_classifier(path: str, label: str) -> Classifier:
    """A classifier by the path of its `.bin` or `.ftz`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or has no such label.
    """
    model = load_fasttext(path, CLASSES)
    return Classifier(model, model.labels[label_column(model.labels, label)])
