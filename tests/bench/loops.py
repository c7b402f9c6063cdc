"""Loops, planted and none, and the rate of filter `chat`: `python -m tests.bench.loops [--quick]`.

What people wrote is cut at line ends into pieces of 400 to 4,000 bytes, as answers are: the main content of those of
the real crawl's English pages that the Gopher rules keep by default (what others say again and again, captions and
ratings, nobody wrote so), the articles of TOKENMILL_REAL_DATA's extract, solutions of GSM8K and MATH-500, and Python
code of this environment's packages. A piece is flagged that `max_loop_repeats` of filter `chat` drops by default.

A loop is planted into a piece of prose: at a word drawn at random, 1 to 200 tokens (the splitter's) of other prose, 3
to 10 times in a row; and three times, which has no bar: one to four tokens are said three times by people as well ("on
and on and on"), so some of these are let be; the table says how many. --quick takes a tenth. Rates are CPU seconds of
one thread.
"""

import json
import random
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from sysconfig import get_path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tests.bench.shared.figures import AT_MOST, Figure, arguments, figures_line
from tests.bench.shared.pages import batches_of, bytes_of, crawl_pages, data_folder
from tests.bench.shared.timing import in_turns
from tokenmill.filters.bounds import first_violated
from tokenmill.filters.chat import ChatBounds, ChatParams, chat_signals
from tokenmill.filters.gopher import GopherQualityBounds, gopher_quality_signals
from tokenmill.filters.loops import PLAIN_WORDS, WORDS, find_loops
from tokenmill.filters.repetition import GopherRepetitionBounds, gopher_repetition_signals
from tokenmill.filters.scan import text_bytes
from tokenmill.filters.splitter import SplitTexts, split_words
from tokenmill.pipeline.language_model import load_language_model

PIECE_BYTES = (400, 4000)
PERIODS = (1, 200)
RECALL_BAR, FLAGGED_BAR = 0.99, 0.001
BANDS = ((1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 64), (65, 200))


def main() -> None:
    """Measure and print the tables and the figures."""
    quick = arguments(__doc__, "a tenth of the pages, of the code and of what is planted").parse_args().quick
    pieces = {kind: pieces_of(texts) for kind, texts in written(quick).items()}
    flagged = {kind: repeats_of(texts) >= 3 for kind, texts in pieces.items()}
    for kind, found in flagged.items():
        print(f"{kind:10s} {len(found):7,} pieces, {int(found.sum()):4} flagged, {found.mean():.4%}")
    every = np.concatenate(list(flagged.values()))
    figures = [Figure("ordinary answers flagged as loops", float(every.mean()), "fraction", FLAGGED_BAR, AT_MOST)]
    prose = [text for kind in ("pages", "articles", "solutions") for text in pieces[kind]]
    for name, times, bar in (("three times", (3, 3), None), ("3 to 10 times", (3, 10), RECALL_BAR)):
        periods, texts = planted(prose, 2_000 if quick else 20_000, times)
        found = repeats_of(texts) >= 3
        print(f"planted {name}: {found.mean():.4f} found; by period in tokens:", _by_band(periods, found))
        figures.append(Figure(f"recall of loops planted {name}", float(found.mean()), "fraction", bar))
    answers = batches_of(prose)
    kernel, group = in_turns(
        [
            lambda: [repeats_of(batch) for batch in answers],
            lambda: [chat_signals(batch, ChatParams()) for batch in answers],
        ],
        rounds=3,
    )
    size = bytes_of(prose) / 1e6
    figures += [Figure("loops", size / kernel, "MB/s"), Figure("all signals of chat", size / group, "MB/s")]
    print(figures_line("loops", figures))


def repeats_of(texts: list[str] | pa.LargeStringArray) -> np.ndarray:
    """Most repeats of a loop in each text."""
    assert ChatBounds().max_loop_repeats == 2
    data, bounds = text_bytes(pa.array(texts, pa.large_string()) if isinstance(texts, list) else texts)
    out = np.zeros((len(texts), 2), np.int64)
    find_loops(data, bounds[:-1].copy(), bounds[1:].copy(), WORDS, PLAIN_WORDS, out)
    return out[:, 0]


def planted(prose: list[str], count: int, times: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    """Pieces with a loop each, and its period in tokens."""
    rng = random.Random(7)
    draw: Callable[[], str] = partial(rng.choice, prose)
    periods, texts = [], []
    while len(texts) < count:
        host, donor, period = draw(), draw(), rng.randint(*PERIODS)
        words = split_words(pa.array([donor], pa.large_string()))
        if len(words.starts) < period:
            continue
        first = rng.randrange(len(words.starts) - period + 1)
        unit = donor.encode()[words.starts[first] : words.ends[first + period - 1]].decode()
        if not any(char.isalpha() for char in unit):
            continue  # a mark alone, such as a full stop, says nothing three times
        parts = host.split(" ")
        at = rng.randrange(len(parts) + 1)
        texts.append(" ".join([*parts[:at], *[unit] * rng.randint(*times), *parts[at:]]))
        periods.append(period)
    return np.array(periods), texts


def _by_band(periods: np.ndarray, found: np.ndarray) -> str:
    bands = ((low, high, found[(periods >= low) & (periods <= high)]) for low, high in BANDS)
    return ", ".join(f"{low}–{high}: {some.mean():.3f}" for low, high, some in bands if len(some))


def written(quick: bool) -> dict[str, list[str]]:
    """What people wrote, by kind."""
    pages = pa.array(crawl_pages(120 if quick else 1_000_000), pa.large_string())
    kept = pc.equal(load_language_model("py3langid").languages(pages, 4096).column(0), "en")
    for signals, bounds, group in (
        (gopher_repetition_signals(SplitTexts(pages)), GopherRepetitionBounds(), "repetition"),
        (gopher_quality_signals(SplitTexts(pages)), GopherQualityBounds(), "quality"),
    ):
        kept = pc.and_(kept, pc.is_null(first_violated(signals, asdict(bounds), group)))
    folder = data_folder()
    truth = folder / "extract" / "article-extraction-benchmark" / "ground-truth.json"
    solutions = [
        json.loads(line).get(key)
        for name, key in (("gsm8k_test", "answer"), ("math500", "solution"))
        for line in (folder / "bench" / f"{name}.jsonl").read_text().splitlines()
    ]
    files = sorted(Path(get_path("purelib")).rglob("*.py"))
    random.Random(3).shuffle(files)
    return {
        "pages": pages.filter(kept).to_pylist(),
        "articles": [article["articleBody"] for article in json.loads(truth.read_text()).values()],
        "solutions": [text for text in solutions if text],
        "code": [file.read_text(errors="replace") for file in files[: 300 if quick else 3000]],
    }


def pieces_of(texts: list[str]) -> list[str]:
    """Pieces of PIECE_BYTES, cut at line ends; what is shorter stays whole, and a rest of a few words goes."""
    rng = random.Random(5)
    found: list[str] = []
    for text in texts:
        lines: list[str] = []
        size, enough = 0, rng.randint(*PIECE_BYTES)
        for line in text.split("\n"):
            lines.append(line)
            size += len(line) + 1
            if size >= enough:
                found.append("\n".join(lines))
                lines, size, enough = [], 0, rng.randint(*PIECE_BYTES)
        if size > 40:
            found.append("\n".join(lines))
    return found


if __name__ == "__main__":
    main()
