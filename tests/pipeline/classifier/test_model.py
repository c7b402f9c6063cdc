"""fastText classifiers of any kind, read and scored by us as the package scores them; and files that are none."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.pipeline.corpus import advert, prose
from tests.pipeline.fasttext_models import fasttext, sentences, train
from tokenmill.filters.classifier import training_line
from tokenmill.pipeline.classifier.model import Classifier, open_classifier
from tokenmill.pipeline.fasttext_model import CLASSES, parse_fasttext

#: As in `filters/fasttext.py`: float32, and a table of sigmoids.
TOLERANCE = {"softmax": 1e-5, "hs": 1e-5, "ova": 0.01, "ns": 0.01}
MODELS: dict[str, dict[str, Any]] = {
    "softmax": {"loss": "softmax", "wordNgrams": 2},
    "characters": {"loss": "softmax", "minn": 2, "maxn": 4},
    "words": {"loss": "softmax"},
    "hs": {"loss": "hs", "wordNgrams": 3},
    "ova": {"loss": "ova", "wordNgrams": 2},
    "ns": {"loss": "ns"},
    "quantised": {"loss": "softmax", "wordNgrams": 2, "quantize": {"cutoff": 500, "qnorm": True}},
}


def examples(count: int, start: int = 0) -> list[tuple[str, str]]:
    """(label, text), in turns; texts of several lines."""
    numbers = range(start, start + count // 2)
    return [pair for n in numbers for pair in (("positive", prose(f"good {n}", 5)), ("negative", advert(n)))]


@pytest.fixture(scope="module", params=MODELS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, float]:
    """A model as the package has it, its file, and how far scores may be apart."""
    options = dict(MODELS[request.param])
    quantize = options.pop("quantize", None)
    folder = tmp_path_factory.mktemp("classifier")
    trained = train(folder, [(label, training_line(text)) for label, text in examples(200)], **options)
    if quantize is not None:
        trained.quantize(retrain=False, **quantize)
    path = folder / ("model.ftz" if quantize else "model.bin")
    trained.save_model(str(path))
    return trained, path, TOLERANCE[options["loss"]]


def scores(classifier: Classifier, texts: list[str]) -> list[float]:
    found: list[float] = classifier.signals(pa.array(texts, pa.large_string())).column("score").to_pylist()
    return found


def test_scores_are_the_packages(both: tuple[Any, Path, float]):
    peer, path, tolerance = both
    texts = [text for _, text in examples(100, 500)] + ["x", "港口 the of", "the __label__positive of", "a\0b\x0bc\r\n"]
    expected = []
    for text in texts:
        found = peer.f.predict(training_line(text) + "\n", -1, 0.0, "strict")
        expected.append({label: min(1.0, score) for score, label in found})
    for label in ("positive", "negative"):
        ours = scores(open_classifier(str(path), label), texts)
        theirs = [row.get(f"__label__{label}", 1e-5) for row in expected]  # those below 1e-5 are not reported there
        np.testing.assert_allclose(ours, theirs, atol=tolerance)
        # decisions, but for scores too near the bound for the tolerance
        for bound in (0.1, 0.5, 0.9):
            apart = [abs(score - bound) > tolerance for score in theirs]
            kept = [(a >= bound, b >= bound) for a, b, far in zip(ours, theirs, apart, strict=True) if far]
            assert [pair for pair in kept if pair[0] != pair[1]] == []
            assert len(kept) >= 90
    told = [score >= 0.5 for score in scores(open_classifier(str(path), "positive"), texts[:100])]
    assert sum(got == (label == "positive") for got, (label, _) in zip(told, examples(100, 500), strict=True)) >= 90


def test_a_language_model_scores_a_label_by_its_own_name(tmp_path: Path):
    train(tmp_path, sentences(1, 300), loss="hs").save_model(str(tmp_path / "lid.bin"))
    with pytest.raises(ValueError, match=r"no label 'positive' in this model; it has .*zh.*: name one"):
        open_classifier(str(tmp_path / "lid.bin"), "positive")
    classifier = open_classifier(str(tmp_path / "lid.bin"), "__label__ru")
    assert classifier.label == "ru"
    low, high = scores(classifier, ["the of and to in", "и в не на что"])
    assert low < 0.3 < 0.7 < high


def test_files_that_are_no_classifier(tmp_path: Path, both: tuple[Any, Path, float]):
    data = both[1].read_bytes()
    for size in [0, 3, 60, 91, 100, 500, *range(1000, len(data), len(data) // 40), len(data) - 1]:
        with pytest.raises(ValueError, match=r"m\.bin cannot be read as a classifier: .*; give a supervised fastText"):
            parse_fasttext(data[:size], "m.bin", CLASSES)
    for wrong, message in (
        (data + b"more", "goes on for 4 bytes after"),
        (b"PK\x03\x04" + data, "it begins with"),
        (b"{}\n" * 40, "it begins with"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_fasttext(wrong, "m.bin", CLASSES)


def test_word_vectors_and_one_label_are_refused(tmp_path: Path):
    (tmp_path / "lines.txt").write_text("\n".join(text for _, text in sentences(1, 50)))
    vectors = fasttext.train_unsupervised(
        str(tmp_path / "lines.txt"), dim=5, bucket=50, minCount=1, epoch=1, thread=1, verbose=0
    )
    vectors.save_model(str(tmp_path / "vectors.bin"))
    with pytest.raises(ValueError, match="it holds word vectors"):
        open_classifier(str(tmp_path / "vectors.bin"), "positive")
    train(tmp_path, [("positive", "a b c")] * 9).save_model(str(tmp_path / "one.bin"))
    with pytest.raises(ValueError, match=r"it tells 1 labels apart \(positive\), and 2 are the least"):
        open_classifier(str(tmp_path / "one.bin"), "positive")
    with pytest.raises(FileNotFoundError):
        open_classifier(str(tmp_path / "none.bin"), "positive")
