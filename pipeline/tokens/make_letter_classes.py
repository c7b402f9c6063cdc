"""Write letter_classes.txt: what `tokenizers`' own regex takes each code point for.

    python -m tokenmill.pipeline.tokens.make_letter_classes > pipeline/tokens/letter_classes.txt

Python's tables will not do: those of Python 3.11 lack 9,272 letters that `tokenizers` knows. Run it again when the
pinned `tokenizers` changes; a test compares the file with what it writes.
"""

from collections.abc import Iterator
from itertools import groupby

from tokenizers import Regex, normalizers, pre_tokenizers

from tokenmill.pipeline.tokens.letter_classes import CLASSES, CODE_POINTS, DIGITS, NOT_NFC

#: Conjoining jamo, vowels and trailing consonants: no marks, yet NFC joins them to what stands before.
_JOINING = (range(0x1161, 0x1176), range(0x11A8, 0x11C3))
_AT_ONCE = 1 << 12


def main() -> None:
    """Print the ranges: first and last code point in hex, and their classes' letters."""
    classes = [""] * CODE_POINTS
    for letter, pattern in CLASSES.items():
        for point in _matches(pattern):
            classes[point] += letter
    for point in _cut_by_digits():
        classes[point] += DIGITS
    for point in _changed_by_nfc():
        classes[point] += NOT_NFC
    print("# first last classes; written by make_letter_classes.py, see letter_classes.py for the letters")
    for letters, group in groupby(range(CODE_POINTS), key=lambda point: classes[point]):
        if letters:
            points = list(group)
            print(f"{points[0]:X} {points[-1]:X} {letters}")


def _matches(pattern: str) -> Iterator[int]:
    """Code points that a pattern of one character matches."""
    others = pre_tokenizers.Split(Regex(pattern), "removed")
    for start in range(0, CODE_POINTS, _AT_ONCE):
        points = [point for point in range(start, start + _AT_ONCE) if not 0xD800 <= point < 0xE000]
        left = others.pre_tokenize_str("".join(map(chr, points)))
        found = set(points)
        for _, (begin, end) in left:
            found.difference_update(points[begin:end])
        yield from sorted(found)


def _cut_by_digits() -> Iterator[int]:
    """Code points that the pre-tokenizer `Digits` takes for numbers: Rust's, newer than the regex's."""
    digits = pre_tokenizers.Digits(individual_digits=True)
    for start in range(0, CODE_POINTS, _AT_ONCE):
        points = [point for point in range(start, start + _AT_ONCE) if not 0xD800 <= point < 0xE000]
        pieces = digits.pre_tokenize_str("a" + "a".join(map(chr, points)))  # a number stands between two pieces "a"
        yield from (ord(piece) for piece, _ in pieces if piece != "a" and len(piece) == 1)


def _changed_by_nfc() -> Iterator[int]:
    """Code points without which NFC changes nothing: marks, joining jamo, and those that it replaces."""
    nfc = normalizers.NFC()
    found = {point for points in _JOINING for point in points} | set(_matches(r"\p{M}"))
    found |= {
        point
        for point in range(CODE_POINTS)
        if not 0xD800 <= point < 0xE000 and nfc.normalize_str(chr(point)) != chr(point)
    }
    return iter(sorted(found))


if __name__ == "__main__":
    main()
