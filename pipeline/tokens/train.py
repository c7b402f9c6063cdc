"""Train a byte-level BPE tokenizer, byte for byte the same for the same texts on any number of threads.

Choices:

- No normaliser: decode(encode(x)) = x holds for every text. NFC would change source code and Hangul jamo, and the bytes
  that content hashes and edit spans count.
- Pre-tokenizer: one of the patterns that the fast path knows by name, then ByteLevel without a pattern of its own and
  without a prefix space. By default Llama 3's (cl100k's, digits in groups of at most three).
- The 256 bytes are the initial alphabet, so that every text can be spelled and there is no unknown token.
- Special tokens take the first ids, in the order given; bytes and merges follow.

Only counts leave the threads, and `tokenizers` breaks ties between equally frequent pairs by their ids, so neither the
number of threads nor the order of the texts changes the result.
"""

import json
from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tokenmill.pipeline.tokens.byte_level import NAMED_PATTERNS

#: A pair seen once makes a piece that only repeats the sample.
MIN_FREQUENCY = 2


def train_tokenizer(
    texts: Iterable[str] | Iterable[Sequence[str]],
    vocab_size: int,
    special_tokens: Sequence[str],
    pattern: str = "llama3",
    verbose: bool = False,
) -> bytes:
    """Bytes of a `tokenizer.json`.

    Args:
        texts: documents, or lists of them, read once; memory holds their distinct pre-tokens, not the texts.
        vocab_size: ids in all: special tokens, 256 bytes, merges. Texts too few or too alike for so many merges give a
            smaller vocabulary; `Encoder.vocab_size` says how large.
        special_tokens: distinct, such as "<|endoftext|>"; ids 0, 1, …
        pattern: how text is cut into pre-tokens, a name of NAMED_PATTERNS.
        verbose: `tokenizers` draws its own bars on standard error.

    Raises:
        ValueError: no room for the alphabet and the special tokens, or a special token that text can produce.
    """
    check_arguments(vocab_size, special_tokens)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(NAMED_PATTERNS[pattern]), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=list(special_tokens),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=verbose,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    text: str = tokenizer.to_str(pretty=False)
    _check_merges(text, special_tokens)
    return text.encode()


def check_arguments(vocab_size: int, special_tokens: Sequence[str]) -> None:
    """Raise ValueError where these cannot make a tokenizer, whatever the texts."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    smallest = len(alphabet) + len(special_tokens)
    if vocab_size < smallest:
        raise ValueError(
            f"vocab_size {vocab_size} is too small: {len(alphabet)} bytes and {len(special_tokens)} special tokens "
            f"alone are {smallest}; ask for at least {smallest}"
        )
    if len(set(special_tokens)) != len(special_tokens):
        raise ValueError(f"special tokens must be distinct, found {list(special_tokens)}")
    for token in special_tokens:
        if not token or token in alphabet:
            raise ValueError(
                f"special token {token!r} is empty or a byte of the alphabet: use a form such as '<|eos|>'"
            )


def _check_merges(tokenizer_json: str, special_tokens: Sequence[str]) -> None:
    """A special token that merges also make would share its id with plain text."""
    made = {"".join(merge) for merge in json.loads(tokenizer_json)["model"]["merges"]}
    for token in special_tokens:
        if token in made:
            raise ValueError(f"special token {token!r} is also a word of the texts: use a form such as '<|{token}|>'")
