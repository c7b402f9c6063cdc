"""Small tokenizers of the kinds that SentencePiece's BPE models are exported to."""

import functools
import json
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TEXTS = [
    "The mask at the end of the text: 12345 words, and then the tokens of 2024 — naïve, don't, Straße.",
    "def f(self, x):\n    return self.x[0] + x  # the end\n\n\nclass A:\n\tpass\n        return {}\n",
    "数学の日本語の文、日本語の数学。 한국어 텍스트. Привет, мир! Ελλάδα. العربية والنص. हिन्दी में पाठ.",
    "https://a.b/c?d=e&the=end ......... ---------- ======== aaaaaaaaaaaaaaaaaaaaaa 😀😀😀 👍🏽 e\u0301e\u0301",
]
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
PREPEND = {"type": "Prepend", "prepend": "▁"}
AT_BLANKS = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


def metaspace(scheme: str, *, split: bool) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


#: Normalizer, pre-tokenizer, added tokens that are text.
FORMS: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None, list[str]]] = {
    "Gemma": (REPLACE, AT_BLANKS, ["\n", "\n\n", "\n\n\n", "▁▁", "▁▁▁", "\t"]),
    "Llama 2": ({"type": "Sequence", "normalizers": [PREPEND, REPLACE]}, None, []),
    "bare": (REPLACE, None, []),
    **{
        f"Metaspace {scheme}{' split' if split else ''}": (None, metaspace(scheme, split=split), [])
        for scheme in ("always", "first", "never")
        for split in (True, False)
    },
}


def added(content: str, token_id: int, **flags: bool) -> dict[str, Any]:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": token_id, "content": content, **plain, **flags}


@functools.cache
def _trained(texts: tuple[str, ...], vocab_size: int, words: bool) -> tuple[dict[str, int], list[list[str]]]:
    """Vocabulary and merges; `words`: blanks stand at the begin of pieces only, but for pieces of blanks alone."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    before = pre_tokenizers.Split("\n", "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [before, pre_tokenizers.Metaspace(prepend_scheme="never", split=words)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=["<unk>", "<s>", "</s>", *BYTES], show_progress=False
    )
    tokenizer.train_from_iterator([text.replace("é", "") for text in texts * 2], trainer)
    vocab = tokenizer.get_vocab()
    pieces = sorted(vocab, key=vocab.__getitem__)
    for piece in ["▁▁", "▁▁▁▁", *pieces, "▁▁▁", "▁" * 8, "\n\n"]:
        vocab.setdefault(piece, len(vocab))
    merges = []
    for piece in [
        "▁▁",
        "▁▁▁▁",
        *pieces[3 + 256 :],
        "▁▁▁",
        "▁" * 8,
        "\n\n",
    ]:  # as transformers makes them of a vocabulary
        parts = [[piece[:k], piece[k:]] for k in range(1, len(piece))]
        merges += sorted(p for p in parts if p[0] in vocab and p[1] in vocab)
    return vocab, merges


def sentence_pieces_json(
    form: str, *, words: bool = True, texts: Sequence[str] = TEXTS, vocab_size: int = 900
) -> dict[str, Any]:
    """A tokenizer.json, without control tokens, in one of FORMS."""
    normalizer, pre_tokenizer, contents = FORMS[form]
    vocab, merges = _trained(tuple(texts), vocab_size, words)
    vocab = dict(vocab)
    for text in contents:
        vocab.setdefault(text, len(vocab))
    model = {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "ignore_merges": False}
    return {
        "version": "1.0",
        "added_tokens": sorted((added(text, vocab[text]) for text in contents), key=lambda token: token["id"]),
        "normalizer": json.loads(json.dumps(normalizer)),
        "pre_tokenizer": json.loads(json.dumps(pre_tokenizer)),
        "model": {**model, "vocab": vocab, "merges": [list(merge) for merge in merges]},
    }
