"""Packing: documents a second, padding and cuts, one thread: `python -m tests.bench.packing [--quick]`.

Speed is that of `pack`, seeded order included, on a million log-normal lengths (mean about 1,000 tokens, some longer
than a row) at L = 4096. Padding is that of real lengths: the main content of the HTML pages in TOKENMILL_REAL_DATA in
tokens of a byte-level BPE trained on some of them, as one unit; fewer documents pad more, since the last row of a unit
has what is left. `concat` stands beside best-fit for what it cuts, and whole blocks of 32 tokens for what they take.
CPU seconds; compilation is not timed.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tests.bench.shared.figures import AT_MOST, Figure, arguments, figures_line
from tests.bench.shared.pages import crawl_pages
from tests.bench.shared.timing import in_turns
from tokenmill.pipeline.tokens.encode import Encoder, TokenizerPolicy
from tokenmill.pipeline.tokens.packing import PackingPolicy, pack
from tokenmill.pipeline.tokens.train import train_tokenizer

LENGTH = 4096
UNIT = 2000
POLICIES = {
    "best_fit": PackingPolicy(),
    "concat": PackingPolicy("concat"),
    "best_fit, align 32": PackingPolicy(align=32),
}
Lengths = npt.NDArray[np.int64]


def main() -> None:
    """Time all methods, pack real lengths, print the table and the figures."""
    quick = arguments(__doc__, "200,000 documents, and 1,000 pages").parse_args().quick
    lengths = made_up_lengths(200_000 if quick else 1_000_000)
    runs = [lambda policy=policy: pack(lengths, LENGTH, 1, policy) for policy in POLICIES.values()]
    seconds = in_turns(runs, rounds=1 if quick else 5)
    rates = {name: len(lengths) / taken for name, taken in zip(POLICIES, seconds, strict=True)}
    real = real_lengths(1000 if quick else 4000)
    longer = int(np.count_nonzero(real > LENGTH))
    print(f"{len(lengths):,} made-up documents; {len(real):,} pages, {longer:,} of them longer than L = {LENGTH}\n")
    print(f"{'':20}{'documents/s':>14}{'padding':>10}{'to align':>10}{'pages cut':>11}")
    packed = {name: pack(real, LENGTH, 1, policy) for name, policy in POLICIES.items()}
    for name, packing in packed.items():
        places = packing.num_rows * LENGTH
        shares = f"{packing.padding_tokens / places:10.2%}{packing.align_tokens / places:10.2%}"
        print(f"{name:20}{rates[name]:14,.0f}{shares}{packing.cut_documents:11,}")
    best = packed["best_fit"]
    padding = 100 * best.padding_tokens / (best.num_rows * LENGTH)
    figures = [
        Figure("best_fit, documents a second", rates["best_fit"], "documents/s", 1e6),
        Figure("concat, documents a second", rates["concat"], "documents/s", 1e6),
        Figure("best_fit with align 32, documents a second", rates["best_fit, align 32"], "documents/s", 1e6),
        Figure("padding of real lengths, best_fit", padding, "%", 0.5, AT_MOST),
        Figure("documents cut needlessly, best_fit", best.cut_documents - longer, "documents", 0, AT_MOST),
    ]
    print(figures_line("packing", figures))


def made_up_lengths(count: int) -> Lengths:
    """Log-normal: median 545 tokens, sigma 1.1, as web pages have them."""
    normal = np.random.default_rng(0).normal(size=count)
    return np.exp(6.3 + 1.1 * normal).astype(np.int64) + 1


def real_lengths(most: int) -> Lengths:
    """Lengths of up to so many pages in tokens, EOS included."""
    pages = crawl_pages(most)
    tokenizer = train_tokenizer(pages[:: max(1, len(pages) // 300)], 16_000, ["<|eos|>", "<|mask|>"])
    encoder = Encoder(tokenizer, TokenizerPolicy(None, "<|eos|>", None, "<|mask|>"))
    return encoder.encode(pa.array(pages, pa.large_string())).lengths


if __name__ == "__main__":
    main()
