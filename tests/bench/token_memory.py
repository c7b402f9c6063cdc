"""Memory of a process that encodes text for long: `python -m tests.bench.token_memory [--quick]`, or `--megabytes N`.

The main content of the pages in TOKENMILL_REAL_DATA, over and over, with one letter replaced by another character each
time, so that many pieces are new and the cache of 32 MiB is filled and emptied again and again. Resident memory after
each tenth of the text; the growth is that from the first tenth to the highest later one.
"""

import os

import pyarrow as pa

from tests.bench.shared.figures import AT_MOST, Figure, arguments, figures_line
from tests.bench.shared.pages import bytes_of, crawl_pages
from tests.bench.shared.trained import documents, halves, trained
from tokenmill.pipeline.tokens.encode import Encoder, TokenizerPolicy

_VOCAB_SIZE = 32_768


def main() -> None:
    """Encode, look at memory, print the figures."""
    parser = arguments(__doc__, "30 MB of text from 250 pages")
    parser.add_argument("--megabytes", type=int, default=10_000, help="of text (10,000)")
    options = parser.parse_args()
    megabytes = 30 if options.quick else options.megabytes
    kinds = halves(documents(250, 4 << 20) if options.quick else documents())
    learned = [text for warm, _ in kinds.values() for text in warm]
    pages = crawl_pages(250 if options.quick else 1_000_000)
    encoder = Encoder(trained(learned, _VOCAB_SIZE), TokenizerPolicy(None, None, None, None, append_eos=False))
    assert encoder.slow_because is None, encoder.slow_because
    del kinds, learned
    resident, done, turn = [], 0, 0
    while len(resident) < 10:
        texts = [text.replace("aeiorstn"[turn % 8], chr(0x100 + turn)) for text in pages]
        encoder.encode(pa.array(texts, pa.large_string()))
        done, turn = done + bytes_of(texts), turn + 1
        while len(resident) < 10 and done >= (len(resident) + 1) * megabytes * 100_000:
            resident.append(_resident_mb())
            print(f"  {done / 1e6:8,.0f} MB of text: {resident[-1]:7,.1f} MB resident", flush=True)
    figures = [
        Figure("text", done / 1e6, "MB"),
        Figure("resident at the end", resident[-1], "MB"),
        Figure("growth after the first tenth", max(resident) - resident[0], "MB", 64, AT_MOST),
    ]
    print(figures_line("token_memory", figures))


def _resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
