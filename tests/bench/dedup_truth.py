"""What is found and removed, held against every pair's exact similarity: `python -m tests.bench.dedup_truth [--quick]`.

The documents are the main content of the HTML pages in TOKENMILL_REAL_DATA, and of each eight copies in which words are
substituted, inserted or deleted, or runs of words moved, at rates that spread similarities from 1 to about 0.5. The
Jaccard similarity of all pairs that reach the threshold is exact: an inverted index over each document's rarest
shingles (prefix filtering, Bayardo et al. 2007) misses none, and Python's sets count. Recall is that of candidate
pairs, beside what the S-curve 1 - (1 - Jʳ)ᵇ predicts for the same pairs. Precision is the fraction of near removals
whose named keeper is as similar as the threshold asks. Labelled sets: pairs missed or added, by both ways to verify.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tests.bench.shared.figures import AT_MOST, Figure, arguments, figures_line
from tests.bench.shared.pages import crawl_pages, data_folder
from tokenmill.dedup.bands import band_keys, candidates
from tokenmill.dedup.exact import hash_matrix
from tokenmill.dedup.jaccard import ShingleSets, shingle_sets, similar_texts
from tokenmill.dedup.minhash import MinHashParams, signature_matrix, signatures
from tokenmill.dedup.survivors import Removals, deduplicate
from tokenmill.filters.content_hashes import content_hashes

I64 = npt.NDArray[np.int64]
EDITS = ("substitute", "insert", "delete", "move")
COPIES = 8
HIGHEST_RATE = 0.06  # edits a word: a similarity of about 0.6 in 5-grams
LABELLED = (100, 1000, 2500)


@dataclass(frozen=True)
class Truth:
    """What was measured; fractions, counts and seconds."""

    documents: int
    similar_pairs: int
    recall: float
    predicted_recall: float
    signature_removals: int
    signature_precision: float
    text_removals: int
    text_precision: float
    checked_pairs: int
    checked_documents: int
    check_seconds: float


@dataclass
class TextCheck:
    """The check on text, which notes what it was asked."""

    sets: ShingleSets
    threshold: float
    asked: list[tuple[int, int, float]] = field(default_factory=list)

    def __call__(self, earlier: I64, later: I64) -> npt.NDArray[np.int32]:
        """Similarity in millionths, or 0."""
        started = time.process_time()
        found = similar_texts(self.sets, self.sets, earlier, later, self.threshold)
        documents = len(np.unique(np.concatenate((earlier, later))))
        self.asked.append((len(earlier), documents, time.process_time() - started))
        return found


def main() -> None:
    """Edit the pages, judge, print the table and the figures."""
    quick = arguments(__doc__, "200 pages instead of all").parse_args().quick
    pages = crawl_pages(200 if quick else 1_000_000)
    params = MinHashParams()
    truth = judge(edited_families(pages, seed=1), params)
    wrong = {verify: _labelled_wrong(params, verify) for verify in ("signature", "text")}
    difference = abs(truth.recall - truth.predicted_recall)
    print(
        f"{truth.documents:,} documents of {len(pages):,} pages, {truth.similar_pairs:,} pairs reach {params.threshold}"
    )
    print(f"  recall of candidates {truth.recall:.4f}, predicted {truth.predicted_recall:.4f}")
    for name, removals, precision in (
        ("signature", truth.signature_removals, truth.signature_precision),
        ("text", truth.text_removals, truth.text_precision),
    ):
        print(f"  verify: {name:10s} {removals:6,} near duplicates removed, precision {precision:.4f}")
    print(
        f"  verify: text looked at {truth.checked_pairs:,} pairs of {truth.checked_documents:,} documents, "
        f"{truth.check_seconds:.2f} s"
    )
    print(f"  labelled sets of {LABELLED} articles: {wrong} pairs missed or added")
    figures = [
        Figure("recall of candidates", truth.recall, "fraction"),
        Figure("recall of candidates off the S-curve's", difference, "fraction", 0.02, AT_MOST),
        Figure("precision, verify: text", truth.text_precision, "fraction", 0.999),
        Figure("precision, verify: signature", truth.signature_precision, "fraction"),
        *(
            Figure(f"labelled pairs missed or added, verify: {verify}", pairs, "pairs", 0, AT_MOST)
            for verify, pairs in wrong.items()
        ),
    ]
    print(figures_line("dedup_truth", figures))


def edited_families(pages: Sequence[str], seed: int) -> list[str]:
    """Each page and COPIES edited copies of it, all pages' in an order of their own."""
    rng = np.random.default_rng(seed)
    texts = []
    for page in pages:
        words = page.split()
        texts.append(page)
        for copy in range(COPIES):
            edits = int(len(words) * rng.uniform(0, HIGHEST_RATE))
            texts.append(" ".join(_edited(words, EDITS[copy % len(EDITS)], edits, rng)))
    return [texts[place] for place in rng.permutation(len(texts))]


def _edited(words: list[str], edit: str, edits: int, rng: np.random.Generator) -> list[str]:
    """The words after so many edits; moving a run breaks three times as many shingles as the others."""
    words = list(words)
    for _ in range(edits if edit != "move" else edits // 3):
        at = int(rng.integers(len(words)))
        if edit == "substitute":
            words[at] = f"new{rng.integers(1 << 40):x}"
        elif edit == "insert":
            words.insert(at, f"new{rng.integers(1 << 40):x}")
        elif edit == "delete" and len(words) > 1:
            del words[at]
        elif edit == "move":
            run = words[at : at + int(rng.integers(5, 20))]
            del words[at : at + len(run)]
            to = int(rng.integers(len(words) + 1))
            words[to:to] = run
    return words


def judge(texts: Sequence[str], params: MinHashParams) -> Truth:
    """Measure recall and precision over texts in survivor order, those of equal content once."""
    column = pa.array(texts, pa.large_string())
    hashes = hash_matrix(content_hashes(column).column(0))
    _, first = np.unique(hashes, axis=0, return_index=True)
    first = np.sort(first)
    column, hashes = column.take(pa.array(first)), hashes[first]
    rows = signature_matrix(signatures(column, params).column(0))
    sets = shingle_sets(column, params.shingling)
    python_sets = [set(sets.hashes[a:b].tolist()) for a, b in pairwise(sets.bounds)]
    similar = similar_pairs(sets, python_sets, params.threshold)
    jaccard = np.array(list(similar.values()))
    met: set[tuple[int, int]] = set()
    for keys in band_keys(rows, params):
        found = candidates(keys)
        met |= set(zip(found.earlier.tolist(), found.later.tolist(), strict=True))
    check = TextCheck(sets, params.threshold)
    check(np.zeros(1, np.int64), np.zeros(1, np.int64))  # compiles
    check.asked.clear()
    by_signature, by_text = deduplicate(hashes, rows, params), deduplicate(hashes, rows, params, check_text=check)
    ((pairs, documents, seconds),) = check.asked
    return Truth(
        documents=len(column),
        similar_pairs=len(similar),
        recall=sum(pair in met for pair in similar) / len(similar),
        predicted_recall=float(np.mean(1 - (1 - jaccard**params.rows) ** params.bands)),
        signature_removals=len(by_signature.removed),
        signature_precision=_precision(by_signature, similar),
        text_removals=len(by_text.removed),
        text_precision=_precision(by_text, similar),
        checked_pairs=pairs,
        checked_documents=documents,
        check_seconds=seconds,
    )


def _precision(found: Removals, similar: dict[tuple[int, int], float]) -> float:
    pairs = zip(found.keeper.tolist(), found.removed.tolist(), strict=True)
    return sum(pair in similar for pair in pairs) / len(found.removed)


def similar_pairs(sets: ShingleSets, python_sets: Sequence[set[int]], threshold: float) -> dict[tuple[int, int], float]:
    """Every pair (lower, higher) whose similarity reaches the threshold, with it.

    Two such sets share one of the size - ⌈threshold · size⌉ + 1 shingles that come first in any one order of all
    shingles; the rarest come first, so that few documents meet at each.
    """
    t = Fraction(str(threshold))
    sizes = np.diff(sets.bounds)
    document = np.repeat(np.arange(len(sizes)), sizes)
    _, shingle, counts = np.unique(sets.hashes, return_inverse=True, return_counts=True)
    order = np.lexsort((shingle, counts[shingle], document))
    place = np.arange(len(order)) - np.repeat(sets.bounds[:-1], sizes)
    prefix = sizes - -(-sizes * t.numerator // t.denominator) + 1
    inside = order[place < np.repeat(prefix, sizes)]
    inside = inside[np.lexsort((document[inside], shingle[inside]))]
    key, member = shingle[inside], document[inside]
    codes, apart = np.empty(0, np.int64), 1
    while len(key) > apart and (same := key[apart:] == key[:-apart]).any():
        found = np.unique(member[:-apart][same] * len(sizes) + member[apart:][same])
        codes = np.union1d(codes, found)
        apart += 1
    similar = {}
    for a, b in zip(*(part.tolist() for part in np.divmod(codes, len(sizes))), strict=True):
        shared = len(python_sets[a] & python_sets[b])
        union = int(sizes[a] + sizes[b]) - shared
        if shared * t.denominator >= t.numerator * union:
            similar[a, b] = shared / union
    return similar


def _labelled_wrong(params: MinHashParams, verify: str) -> int:
    """Pairs missed or added over the labelled sets of articles."""
    folder = data_folder() / "dup" / "chrisjmccormick+MinHash"
    wrong = 0
    for articles in LABELLED:
        lines = (folder / f"articles_{articles}.train").read_text().splitlines()
        names, texts = zip(*(line.split(" ", 1) for line in lines), strict=True)
        truth = {frozenset(line.split()) for line in (folder / f"articles_{articles}.truth").read_text().splitlines()}
        column = pa.array(texts, pa.large_string())
        check = TextCheck(shingle_sets(column, params.shingling), params.threshold) if verify == "text" else None
        found = deduplicate(
            hash_matrix(content_hashes(column).column(0)),
            signature_matrix(signatures(column, params).column(0)),
            params,
            check_text=check,
        )
        pairs = zip(found.removed.tolist(), found.keeper.tolist(), strict=True)
        wrong += len({frozenset((names[a], names[b])) for a, b in pairs} ^ truth)
    return wrong


if __name__ == "__main__":
    main()
