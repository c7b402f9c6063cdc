"""Languages of sentences and pages, ours and the packages', one thread: `python -m tests.bench.language [--quick]`.

Accuracy: sentences of TOKENMILL_REAL_DATA's lang/lingua in 75 languages, all of them or, with --quick, 40 a language;
right is the language of the file. Rates are of three kinds of documents: the main content of the real crawl's pages as
it is; documents of 3 KB cut from it; and these in lines of 100 characters, which are paragraphs to identify. "All
signals" are the three best languages and the fraction in paragraphs of other ones; ours reads a prefix of 4 KB. The
package gets the same prefix of some of the same documents, one after another, for the best language alone. Ours and
the package in turns, medians of CPU seconds of 3 rounds after one that is not counted: machines are shared.

The fastText model is --model, or TOKENMILL_FASTTEXT_MODEL, or the lid.176.ftz of an installed wheel; without one its
lines are left out. Loading and compiling are not timed.
"""

import os
import sys
from collections.abc import Callable

import pyarrow as pa

from tests.bench.shared.figures import Figure, arguments, figures_line
from tests.bench.shared.pages import crawl_pages, data_folder
from tests.bench.shared.timing import in_turns
from tokenmill.filters.labels import short_label
from tokenmill.pipeline.language_model import installed_file, load_language_model

PIECE_BYTES = 3000
PREFIX_BYTES = 4096
RATE_BAR = 2000
Identify = Callable[[str], str]


def main() -> None:
    """Measure every model and print the table and the figures."""
    parser = arguments(__doc__, "40 sentences a language, 200 documents of each kind")
    parser.add_argument("--model", help="a fastText model, such as lid.176.ftz; else one of an installed wheel")
    options = parser.parse_args()
    sentences = _sentences(40 if options.quick else 1_000_000)
    kinds = _kinds(crawl_pages(200 if options.quick else 1_000_000), 200 if options.quick else 2000)
    peers: dict[str, Identify] = {"py3langid": _py3langid()}
    path = options.model or os.environ.get("TOKENMILL_FASTTEXT_MODEL") or installed_file("lid.176.ftz")
    if path is None:
        print("no fastText model: give --model, or install a wheel with lid.176.ftz")
    else:
        peers[path] = _fasttext(path)
    print(f"{len(sentences):,} sentences")
    for kind, texts in kinds.items():
        size = sum(min(PREFIX_BYTES, len(text.encode())) for text in texts) / len(texts)
        print(f"{kind}: {len(texts):,}, of whose {size:,.0f} bytes on average are read")
    figures: list[Figure] = []
    for model, peer in peers.items():
        figures += _accuracy(model, peer, sentences)
        for kind, texts in kinds.items():
            figures += _rates(model, peer, kind, texts, 40 if options.quick else 200)
    print(figures_line("language", figures))


def _accuracy(model: str, peer: Identify, sentences: list[tuple[str, str]]) -> list[Figure]:
    ours = load_language_model(model)
    truth, texts = [language for language, _ in sentences], [text for _, text in sentences]
    found = ours.languages(pa.array(texts, pa.large_string()), PREFIX_BYTES).column(0).to_pylist()
    theirs = [short_label(peer(text)) for text in texts]
    right, right_theirs = (
        sum(a == b for a, b in zip(labels, truth, strict=True)) / len(truth) for labels in (found, theirs)
    )
    same = sum(a == b for a, b in zip(found, theirs, strict=True)) / len(truth)
    print(f"{ours.name}: accuracy {right:.4f}, the package {right_theirs:.4f}; the same label for {same:.4%}")
    return [Figure(f"accuracy, {ours.name}", right, "fraction", right_theirs)]


def _rates(model: str, peer: Identify, kind: str, texts: list[str], few: int) -> list[Figure]:
    ours = load_language_model(model)
    array = pa.array(texts, pa.large_string())
    some = texts[:: max(1, len(texts) // few)]
    prefixes = [text.encode()[:PREFIX_BYTES].decode(errors="ignore") for text in some]
    best_three, signals, signals_of_some, package = in_turns(
        [
            lambda: ours.languages(array, PREFIX_BYTES),
            lambda: ours.signals(array, PREFIX_BYTES),
            lambda: ours.signals(pa.array(some, pa.large_string()), PREFIX_BYTES),
            lambda: [peer(prefix) for prefix in prefixes],
        ],
        rounds=3,
    )
    rates = (len(texts) / best_three, len(texts) / signals, len(some) / package)
    print(
        f"  {kind:25s} three best {rates[0]:8,.0f}, all signals {rates[1]:8,.0f}, the package's best {rates[2]:8,.0f}"
        f" documents/s: {package / signals_of_some:.1f} times"
    )
    where = f"{kind}, {ours.name}"
    return [
        Figure(f"three best languages, {where}", rates[0], "documents/s", RATE_BAR),
        Figure(f"all language signals, {where}", rates[1], "documents/s", RATE_BAR),
        Figure(f"all signals by the package's best, {where}", package / signals_of_some, "times"),
    ]


def _py3langid() -> Identify:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    return lambda text: str(identifier.classify(text)[0])


def _fasttext(path: str) -> Identify:
    import fasttext

    model = fasttext.load_model(path)

    def identify(text: str) -> str:
        ((_, label), *_) = model.f.predict(text.replace("\n", " ") + "\n", 1, 0.0, "strict")
        return str(label)

    return identify


def _sentences(most: int) -> list[tuple[str, str]]:
    """(language, sentence), up to `most` a language, the languages in the form in which they are stored."""
    folder = data_folder() / "lang" / "lingua"
    files = sorted((folder / "sentences").glob("*.txt"))
    if not files:
        sys.exit(f"no sentences in {folder}: set TOKENMILL_REAL_DATA")
    return [(short_label(file.stem), line) for file in files for line in file.read_text().splitlines()[:most] if line]


def _kinds(pages: list[str], most: int) -> dict[str, list[str]]:
    """The documents to measure: pages, and up to `most` pieces of PIECE_BYTES as they are and in short lines."""
    encoded = [page.encode() for page in pages]
    pieces = [
        text[start : start + PIECE_BYTES].decode(errors="ignore")
        for text in encoded
        for start in range(0, len(text) - PIECE_BYTES + 1, PIECE_BYTES)
    ][:most]
    lines = ["\n".join(piece[at : at + 100].replace("\n", " ") for at in range(0, len(piece), 100)) for piece in pieces]
    return {"pages": pages, "3 KB": pieces, "3 KB in 100-letter lines": lines}


if __name__ == "__main__":
    main()
