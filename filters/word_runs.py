"""A run of characters laid out for the rules: int64[n + 1, 5], a row for each code point, the last with the end."""

import numpy as np

from tokenmill.kernels import helper, kernel

#: Columns of a run: code point, class bits, byte, whether a word begins here; where word k of the run begins.
CODE, BITS, OFFSET, CUT, WORD = range(5)


@kernel
def decode(data, at, end):  # type: ignore[no-untyped-def]
    """Code point at `at` and its size in bytes; an ill-formed byte is taken for U+FFFD."""
    lead = np.int64(data[at])
    if lead < 0x80:
        return lead, 1
    size = 2 if lead < 0xE0 else (3 if lead < 0xF0 else 4)
    if lead < 0xC0 or lead > 0xF4 or at + size > end:
        return 0xFFFD, 1
    code = lead & (0x7F >> size)
    for k in range(1, size):
        code = (code << 6) | (np.int64(data[at + k]) & 0x3F)
    return (code, size) if code < 0x110000 else (0xFFFD, size)


@helper
def lay_out(data, at, end, table, run):  # type: ignore[no-untyped-def]
    """Lay a run out, code point by code point."""
    count = 0
    while at < end:
        code, size = decode(data, at, end)
        run[count, CODE], run[count, BITS], run[count, OFFSET], run[count, CUT] = code, table[code], at, 0
        at += size
        count += 1
    run[count, OFFSET] = end
