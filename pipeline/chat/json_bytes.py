r"""JSON as kernels read it, from bytes: strings into UTF-8, other values passed over.

What is read is a line: every function stops at its line feed at the latest, since no JSON on one line goes on behind
one, so none is told where the line ends. A function that meets what it does not take returns -1 for the place: bytes
that are no JSON or no UTF-8, but also what `clean` would change (control characters, lone surrogates), and numbers and
nesting beyond any use. Whoever needs to know reads the line with Python's `json`.
"""

import numpy as np
import numpy.typing as npt

from tokenmill.filters.eight_bytes import load8, store8, trailing_zeros
from tokenmill.kernels import helper

U8 = npt.NDArray[np.uint8]

QUOTE, COLON, COMMA, OPEN, CLOSE, LIST, END_OF_LIST = (ord(sign) for sign in '":,{}[]')
_BACKSLASH, _DELETE, _LOW_U = ord("\\"), 0x7F, ord("u")
_MINUS, _POINT, _ZERO = ord("-"), ord("."), ord("0")
_EACH, _TOPS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_BLANKS, _QUOTES, _BACKSLASHES, _DELETES = (np.uint64(byte) * _EACH for byte in (0x20, QUOTE, _BACKSLASH, _DELETE))
_THREE = np.uint64(3)

_TRUE, _FALSE, _NULL = (int.from_bytes(word, "little") for word in (b"true", b"false", b"null"))

#: What a character behind a backslash stands for; 0: nothing, or what `clean` removes.
_ESCAPES = np.zeros(256, np.uint8)
for _name, _meant in zip('"\\/ntr', '"\\/\n\t\r', strict=True):
    _ESCAPES[ord(_name)] = ord(_meant)
#: Python's `json` refuses integers of more than 4,300 digits.
_NUMBER_BYTES = 300
#: Brackets open at once, each a bit of an int64.
_DEPTH = 60


@helper
def skip_blanks(data: U8, at: int) -> int:
    """First place from `at` on that is no white space of JSON, but for the line's end."""
    while data[at] == 0x20 or data[at] == 0x09 or data[at] == 0x0D:
        at += 1
    return at


@helper
def behind(data: U8, at: int, sign: int) -> int:
    """Place of what follows a sign that may have white space around it; -1 if another is there."""
    at = skip_blanks(data, at)
    return skip_blanks(data, at + 1) if data[at] == sign else -1


@helper
def read_string(data: U8, at: int, out: U8, to: int) -> tuple[int, int]:
    """Write a string, its escapes resolved.

    Args:
        data: JSON.
        at: of the byte behind its opening quote.
        out: 8 bytes longer than it can get.
        to: where to write in it.

    Returns:
        Places behind the closing quote (-1: not taken), and behind the last byte written.
    """
    while True:
        while at + 8 <= len(data):
            block = load8(data, at)
            store8(out, to, block)
            quote, backslash, delete = block ^ _QUOTES, block ^ _BACKSLASHES, block ^ _DELETES
            found = block | ((quote - _EACH) & ~quote) | ((backslash - _EACH) & ~backslash)
            found |= ((delete - _EACH) & ~delete) | ((block - _BLANKS) & ~block)
            found &= _TOPS
            if found:
                plain = int(trailing_zeros(found) >> _THREE)
                at += plain
                to += plain
                break
            at += 8
            to += 8
        byte = data[at]
        if byte == QUOTE:
            return at + 1, to
        if byte == _BACKSLASH:
            at, to = _read_escape(data, at + 1, out, to)
        elif byte >= 0x80:
            at, to = _copy_characters(data, at, out, to)
        elif byte < 0x20 or byte == _DELETE:
            return -1, to
        else:  # among the last seven bytes
            out[to] = byte
            at += 1
            to += 1
        if at < 0:
            return -1, to


@helper
def _copy_characters(data: U8, at: int, out: U8, to: int) -> tuple[int, int]:
    """Copy characters beyond ASCII; the place is -1 where they are not well-formed (Unicode 3.9, table 3-7)."""
    while data[at] >= 0x80:
        lead, second = data[at], data[at + 1]
        size = 2 if lead < 0xE0 else (3 if lead < 0xF0 else 4)
        if lead < 0xC2 or lead > 0xF4 or second & 0xC0 != 0x80:
            return -1, to
        if (lead == 0xE0 and second < 0xA0) or (lead == 0xED and second > 0x9F):  # too long; surrogates
            return -1, to
        if (lead == 0xF0 and second < 0x90) or (lead == 0xF4 and second > 0x8F):  # too long; beyond U+10FFFF
            return -1, to
        out[to], out[to + 1] = lead, second
        for k in range(2, size):
            if data[at + k] & 0xC0 != 0x80:
                return -1, to
            out[to + k] = data[at + k]
        at += size
        to += size
    return at, to


@helper
def _read_escape(data: U8, at: int, out: U8, to: int) -> tuple[int, int]:
    """Write the character of the escape whose backslash is before `at`."""
    if data[at] != _LOW_U:
        out[to] = _ESCAPES[data[at]]
        return (at + 1 if out[to] else -1), to + 1
    code = _hexadecimal(data, at + 1)
    at += 5
    if 0xD800 <= code <= 0xDBFF and data[at] == _BACKSLASH and data[at + 1] == _LOW_U:
        low = _hexadecimal(data, at + 2)
        at += 6
        code = 0x10000 + ((code - 0xD800) << 10) + low - 0xDC00 if 0xDC00 <= low <= 0xDFFF else -1
    if code < 0x20 and code != 0x09 and code != 0x0A and code != 0x0D:  # or -1
        return -1, to
    if code == _DELETE or 0xD800 <= code <= 0xDFFF:
        return -1, to
    return at, _write_character(code, out, to)


@helper
def _hexadecimal(data: U8, at: int) -> int:
    """The number of four hexadecimal digits; -1 if they are not all there."""
    number = 0
    for k in range(at, at + 4):
        byte = data[k]
        if 0x30 <= byte <= 0x39:
            digit = int(byte) - 0x30
        elif 0x61 <= byte | 0x20 <= 0x66:
            digit = (int(byte) | 0x20) - 0x57
        else:
            return -1
        number = (number << 4) | digit
    return number


@helper
def _write_character(code: int, out: U8, to: int) -> int:
    """Write a code point as UTF-8: the place behind it."""
    if code < 0x80:
        out[to] = code
        return to + 1
    size = 2 if code < 0x800 else (3 if code < 0x10000 else 4)
    for k in range(size - 1, 0, -1):
        out[to + k] = 0x80 | (code & 0x3F)
        code >>= 6
    out[to] = ((0xF00 >> size) & 0xFF) | code
    return to + size


@helper
def skip_value(data: U8, at: int, out: U8, to: int) -> int:
    """Place behind the value that begins at `at`; -1 if it is not taken. What is behind `to` in `out` is lost."""
    depth = objects = 0  # brackets open, and whether each is an object's, the innermost the lowest bit
    while True:
        byte = data[at]
        if byte == OPEN or byte == LIST:  # noqa: SIM109 - a kernel that looks into a tuple takes longer to compile
            depth += 1
            objects = (objects << 1) | int(byte == OPEN)
            at = skip_blanks(data, at + 1)
            if depth > _DEPTH:
                return -1
            if data[at] != (CLOSE if byte == OPEN else END_OF_LIST):
                at = _skip_key(data, at, out, to) if byte == OPEN else at
                if at < 0:
                    return -1
                continue
        else:
            at = _skip_scalar(data, at, out, to)
        if at < 0:
            return -1
        # behind a value, or before the end of an empty object or list
        while depth > 0:
            at = skip_blanks(data, at)
            if data[at] == (CLOSE if objects & 1 else END_OF_LIST):
                depth -= 1
                objects >>= 1
                at += 1
                continue
            break
        if depth == 0:
            return at
        at = behind(data, at, COMMA)
        if at >= 0 and objects & 1:
            at = _skip_key(data, at, out, to)
        if at < 0:
            return -1


@helper
def _skip_key(data: U8, at: int, out: U8, to: int) -> int:
    """Place of the value whose key begins at `at`."""
    if data[at] != QUOTE:
        return -1
    at, _ = read_string(data, at + 1, out, to)
    if at >= 0:
        at = behind(data, at, COLON)
    return at


@helper
def _skip_scalar(data: U8, at: int, out: U8, to: int) -> int:
    """Place behind a string, number, true, false or null."""
    byte = data[at]
    if byte == QUOTE:
        at, _ = read_string(data, at + 1, out, to)
    elif byte == _TRUE & 0xFF:
        at = _skip_word(data, at, _TRUE)
    elif byte == _FALSE & 0xFF:
        at = _skip_word(data, at, _FALSE)
    elif byte == _NULL & 0xFF:
        at = _skip_word(data, at, _NULL)
    else:
        at = _skip_number(data, at)
    return at


@helper
def _skip_word(data: U8, at: int, word: int) -> int:
    """Place behind a word, whose first letter is the lowest byte of `word`; -1 if another is there."""
    while word > 0:
        if data[at] != word & 0xFF:
            return -1
        word >>= 8
        at += 1
    return at


@helper
def skip_digits(data: U8, at: int) -> int:
    """First place from `at` on that is no digit."""
    while 0x30 <= data[at] <= 0x39:
        at += 1
    return at


@helper
def _skip_number(data: U8, at: int) -> int:
    """Place behind a number."""
    start = at
    if data[at] == _MINUS:
        at += 1
    digits = at
    at = skip_digits(data, at)
    if at == digits or (data[digits] == _ZERO and at > digits + 1):
        return -1
    if data[at] == _POINT:
        digits = at + 1
        at = skip_digits(data, digits)
        if at == digits:
            return -1
    if data[at] | 0x20 == 0x65:
        at += 1
        if data[at] == _MINUS or data[at] == 0x2B:
            at += 1
        digits = at
        at = skip_digits(data, digits)
        if at == digits:
            return -1
    return at if at - start <= _NUMBER_BYTES else -1
