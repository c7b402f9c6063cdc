"""Strings that tell encoders apart: what a tokenizer's pattern, normaliser and added tokens trip over.

`PROBES` are fixed, and every tokenizer is checked with them when it is loaded; `strings` makes as many more as a test
wants.
"""

from collections.abc import Iterator

from tokenmill.manifests.keyed import key64

_PIECES = (
    *(" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", "\u0085", "\x0b", "\x1c", "\u200b"),
    *("'", "'s", "'S", "'ſ", "'ll", "'RE", "'Ve", "'d", "’s", "a", "B", "word", "Word", "WORD", "camelCase", "naïve"),
    *("é", "E\u0301", "É", "\u0301", "\u0f71\u0f72", "가", "\u1100\u1161", "각", "日本", "語", "ǅ", "ʰ", "ُ", "ß", "ﬁ"),
    *("नमस्ते", "สวัสดี", "مرحبا", "שלום", "привет", "Việt", "1", "12", "123", "1234567", "٣", "Ⅷ", "½", "²", "𝟘"),
    *("!", "/", "//", "...", "==", "->", "<", "<|", "|>", "<s>", "</s>", "_", "__init__", "{", "}\n", "#", "\\", '"'),
    *("😀", "👩‍👩‍👧", "🇩🇪", "\x00", "\x7f", "\ufeff", "\ufffd", "\U0010ffff", "\U00011de9", "𐍈", "▁", "▁▁", "Ġ", "Ω"),
)  # fmt: skip


def strings(seed: int, count: int, most_pieces: int = 14) -> Iterator[str]:
    """So many strings of 1 to `most_pieces` pieces, runs of one and code points of all planes; the same for a seed."""
    for index in range(count):
        pieces = 1 + key64("probe", seed, index) % most_pieces
        yield "".join(_drawn(key64("probe", seed, index, place)) for place in range(pieces))


def _drawn(drawn: int) -> str:
    kind, drawn = drawn % 20, drawn // 20
    if kind < 14:
        return _PIECES[drawn % len(_PIECES)] * (1 if kind else 1 + drawn // 1000 % 40)
    if kind == 14:  # bytes that are mostly no UTF-8, as they are replaced on reading
        return drawn.to_bytes(8, "little")[: 1 + drawn % 7].decode(errors="replace")
    point = drawn % (0x110000 if kind < 17 else 0x3000)
    return "\ufffd" if 0xD800 <= point < 0xE000 else chr(point)


PROBES = (
    "",
    *_PIECES,
    "The quick brown fox doesn't jump over 13 lazy dogs; it's 3,141.59 % ASLEEP…\n\n  Fine?  \n",
    "def main(argv: list[str]) -> int:\n    return 0  # 'nothing' to do\n\n\n\tif x==1: print(\"a\\n\")\r\n",
    "https://example.org/a/b?c=d&e=%20#f  user@example.org\t2026-11-23T07:48:00Z  v1.2.3-rc4\n",
    "数学は、自然科学の言語である。１２３、４５。 Ελληνικά και русский текст, עברית, العربية ٣٤٥.",
    "x" * 300 + " " * 70 + "9" * 40 + "\n" * 20 + "ab" * 200 + "é" * 50 + "-" * 90,
    *strings(0, 400),
)
