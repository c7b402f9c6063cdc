"""Ids of our kernels against `tokenizers` on random strings: `python -m tests.oracle.fuzz_tokens [--strings N]`.

Each pre-tokenizer that the kernels know gets the same strings (`probes.strings`: all planes, runs of white space,
contractions, digits, emoji, combining marks, invalid bytes replaced), in a model whose merges were learned without any
pre-tokenizer: they cross wherever it cuts, so another cut gives other ids. A line each; exit status 1 and the first
differing strings where there are any. `make fuzz-tokens STRINGS=200000`.
"""

import argparse
import json
import sys
from itertools import islice

from tokenizers import Tokenizer

from tests.pipeline.tokens.byte_level_tokenizers import PRE_TOKENIZERS, TEXTS, fast_encoder, ids_of, train
from tokenmill.pipeline.tokens.probes import strings

_AT_ONCE = 2000


def main() -> None:
    """Draw, encode both ways, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strings", type=int, default=200_000, help="how many for each pre-tokenizer (200,000)")
    parser.add_argument("--seed", type=int, default=1, help="of the strings")
    options = parser.parse_args()
    found = 0
    for name, differing in differences(options.strings, options.seed).items():
        print(f"{name:35s} {options.strings:,} strings, {len(differing)} differ", flush=True)
        for text in sorted(differing, key=len)[:5]:
            print(f"    {text!r}")
        found += len(differing)
    sys.exit(found > 0)


def differences(count: int, seed: int) -> dict[str, list[str]]:
    """Strings that the kernels encode otherwise, by pre-tokenizer."""
    model = train(PRE_TOKENIZERS["ByteLevel without its pattern"], [*TEXTS, *strings(0, 4000)], 4000)
    values = {
        name: model | {"pre_tokenizer": train(pre, ["a"])["pre_tokenizer"]} for name, pre in PRE_TOKENIZERS.items()
    }
    values["NFC, qwen2"] = values["qwen2"] | {"normalizer": {"type": "NFC"}}
    encoders = {name: fast_encoder(value) for name, value in values.items()}
    oracles = {name: Tokenizer.from_str(json.dumps(value)) for name, value in values.items()}
    differing: dict[str, list[str]] = {name: [] for name in values}
    drawn = strings(seed, count)
    for texts in iter(lambda: list(islice(drawn, _AT_ONCE)), []):
        for name in values:
            expected = oracles[name].encode_batch_fast(texts, add_special_tokens=False)
            pairs = zip(texts, ids_of(encoders[name], texts), expected, strict=True)
            differing[name] += [text for text, ours, theirs in pairs if ours != theirs.ids]
    return differing


if __name__ == "__main__":
    main()
