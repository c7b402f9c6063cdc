"""What the pre-tokenizers' patterns take each code point for: tables for kernels, read from letter_classes.txt."""

import functools
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]

CODE_POINTS = 0x110000
#: Letter in the file → pattern of `tokenizers`' regex. Upper and lower are those of the o200k pattern, and overlap.
CLASSES = {
    "L": r"\p{L}",
    "N": r"\p{N}",
    "S": r"\s",
    "U": r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]",
    "W": r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]",
}
#: What the pre-tokenizer `Digits` takes for numbers.
DIGITS = "D"
#: A text without one of these is in NFC.
NOT_NFC = "C"

LETTER, NUMBER, SPACE, UPPER, LOWER, NUMERIC, NFC_CHANGES, NEWLINE = (1 << bit for bit in range(8))
_BITS = {"L": LETTER, "N": NUMBER, "S": SPACE, "U": UPPER, "W": LOWER, DIGITS: NUMERIC, NOT_NFC: NFC_CHANGES}


class LetterClasses(NamedTuple):
    """Classes of a code point c: `of_block[block[c >> 8] << 8 | c & 255]`.

    Attributes:
        block: uint16[0x1100].
        of_block: uint8[256 · blocks], bits LETTER … NEWLINE; the first 256 are those of U+0000 … U+00FF.
    """

    block: U16
    of_block: U8


@functools.cache
def letter_classes() -> LetterClasses:
    """The tables; read once a process."""
    classes = np.zeros(CODE_POINTS, np.uint8)
    for line in files(__package__).joinpath("letter_classes.txt").read_text().splitlines():
        if not line.startswith("#"):
            first, last, letters = line.split()
            classes[int(first, 16) : int(last, 16) + 1] = sum(_BITS[letter] for letter in letters)
    classes[[0x0A, 0x0D]] |= NEWLINE
    places: dict[bytes, int] = {}  # the block of ASCII comes first
    block = [places.setdefault(one.tobytes(), len(places)) for one in classes.reshape(-1, 256)]
    return LetterClasses(np.array(block, np.uint16), np.frombuffer(b"".join(places), np.uint8))
