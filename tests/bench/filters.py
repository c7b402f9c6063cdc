"""All signals of the four filters against datatrove's four, one thread: `python -m tests.bench.filters [--quick]`.

The texts are the main content of the HTML pages in TOKENMILL_REAL_DATA. Ours are GopherRepetition, GopherQuality, C4
(without its punctuation rule, as FineWeb runs it), its edits applied, and FineWebQuality on what they leave: every
signal of every page. datatrove's are the same four in the same order and settings with its own splitter, each page only
until a filter drops it. Rates are of all pages; the ratio is of the times for the same few pages, ours and theirs in
turns, medians of CPU seconds: machines are shared. Compilation and the loading of spaCy are not timed.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa

from tests.bench.shared.figures import Figure, arguments, figures_line
from tests.bench.shared.pages import batches_of, bytes_of, crawl_pages
from tests.bench.shared.timing import in_turns
from tokenmill.filters.c4 import C4Params, c4
from tokenmill.filters.fineweb import fineweb_quality_signals
from tokenmill.filters.gopher import gopher_quality_signals
from tokenmill.filters.repetition import gopher_repetition_signals
from tokenmill.filters.splitter import SplitTexts

PARAMS = C4Params(terminal_punctuation=False)


def main() -> None:
    """Extract the pages, time both, print the table and the figures."""
    quick = arguments(__doc__, "400 pages instead of all, and fewer of them for datatrove").parse_args().quick
    pages = crawl_pages(400 if quick else 1_000_000)
    few = pages[:: max(1, len(pages) // (60 if quick else 300))]
    batches, few_batches = batches_of(pages), batches_of(few)
    num_bytes, few_bytes = bytes_of(pages), bytes_of(few)
    print(f"{len(pages):,} pages, {num_bytes / 1e6:.1f} MB of text; for datatrove {len(few)}, {few_bytes / 1e6:.2f} MB")

    peers = _datatrove()
    ours_few, theirs_few = in_turns([lambda: _ours(few_batches), lambda: _theirs(peers, few)], rounds=3)
    steps = in_turns([partial(step, batches) for step in STEPS.values()], rounds=5)
    (total,) = in_turns([lambda: _ours(batches)], rounds=5)
    rows = [(name, num_bytes, len(pages), seconds) for name, seconds in zip(STEPS, steps, strict=True)]
    rows.append(("all signals, each text split once", num_bytes, len(pages), total))
    rows.append(("datatrove's four chained", few_bytes, len(few), theirs_few))
    for name, size, num_pages, seconds in rows:
        print(f"  {name:40s} {size / seconds / 1e6:9.2f} MB/s {num_pages / seconds:10,.0f} pages/s")
    figures = [
        Figure("all signals of the four filters", num_bytes / total / 1e6, "MB/s", 30),
        Figure("times datatrove's four chained", theirs_few / ours_few, "times", 100),
    ]
    print(figures_line("filters", figures))


def _ours(batches: list[pa.LargeStringArray]) -> None:
    for texts in batches:
        split = SplitTexts(texts)
        gopher_repetition_signals(split)
        gopher_quality_signals(split)
        _, _, edited = c4(split, PARAMS)
        fineweb_quality_signals(edited)


def _each(step: Callable[[SplitTexts], Any]) -> Callable[[list[pa.LargeStringArray]], None]:
    def run(batches: list[pa.LargeStringArray]) -> None:
        for texts in batches:
            step(SplitTexts(texts))

    return run


STEPS = {
    "words": _each(lambda split: split.words),
    "gopher_repetition, splitting": _each(gopher_repetition_signals),
    "gopher_quality, splitting": _each(gopher_quality_signals),
    "c4 with its edits applied, splitting": _each(lambda split: c4(split, PARAMS)),
    "fineweb_quality, splitting": _each(fineweb_quality_signals),
}


def _datatrove() -> list[Any]:
    """datatrove's four filters, in the order and with the settings of FineWeb."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from datatrove.pipeline.filters import (
            C4QualityFilter,
            FineWebQualityFilter,
            GopherQualityFilter,
            GopherRepetitionFilter,
        )
    return [
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        C4QualityFilter(filter_no_terminal_punct=False),
        FineWebQualityFilter(),
    ]


def _theirs(filters: list[Any], texts: list[str]) -> None:
    from datatrove.data import Document

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy: mean of no words
        for text in texts:
            document = Document(text=text, id="")
            for peer in filters:
                if peer.filter(document) is not True:
                    break


if __name__ == "__main__":
    main()
