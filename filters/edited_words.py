"""Words of edited texts, from the words before the edits: splitting again would cost five times as much.

Words end at white space at the latest. Where edits take white space, and whole runs of characters with the white space
around them, as line rules do, the words of what is left are those that were there. Texts with an edit within a run are
split anew.
"""

import numpy as np
from numba import njit

from tokenmill.filters.word_scanner import MAX_RUN, scan_text
from tokenmill.kernels import helper


@njit(nogil=True, cache=True)
def edited_words(words, flags, edits, anew, data, bounds, table, entries, sieve):  # type: ignore[no-untyped-def]
    """Words of all edited texts.

    Args:
        words: starts, ends, characters and documents of the words before, and where the texts lay: int64[d + 1].
        flags: uint8[n], theirs.
        edits: rows int32, starts and ends int64, bytes in the text, and their replacements' bytes uint8.
        anew: bool[d], texts to be split anew.
        data: uint8, the edited texts.
        bounds: int64[d + 1], where they lie.
        table: `classes()`.
        entries: see `word_scanner.Lexicon`.
        sieve: see `word_scanner.Lexicon`.

    Returns:
        starts, ends: int64[m], bytes in `data`; characters: int32[m]; documents: int64[d + 1]; flags: uint8[m].
    """
    starts, ends, characters, documents, text_bounds = words
    rows, froms, untils, sizes = edits
    capacity = len(starts)
    for row in range(len(anew)):
        if anew[row]:
            capacity += bounds[row + 1] - bounds[row]  # a word has a byte at least
    out = (
        np.empty(capacity, np.int64),
        np.empty(capacity, np.int64),
        np.empty(capacity, np.int32),
        np.empty(capacity, np.uint8),
    )
    run = np.zeros((MAX_RUN + 1, 5), np.int64)
    out_documents = np.zeros(len(documents), np.int64)
    filled = edit = 0
    for row in range(len(anew)):
        word, last = documents[row], documents[row + 1]
        place, position = bounds[row], text_bounds[row]
        if anew[row]:
            filled = scan_text(data, place, bounds[row + 1], table, entries, sieve, run, out, filled)
            while edit < len(rows) and rows[edit] == row:
                edit += 1
        else:
            while edit < len(rows) and rows[edit] == row:
                start, end = text_bounds[row] + froms[edit], text_bounds[row] + untils[edit]
                word, filled = _carry(starts, ends, characters, flags, word, last, start, place - position, out, filled)
                while word < last and starts[word] < end:
                    word += 1
                place += start - position + sizes[edit]
                position = end
                edit += 1
            stop = text_bounds[row + 1]
            word, filled = _carry(starts, ends, characters, flags, word, last, stop, place - position, out, filled)
        out_documents[row + 1] = filled
    return out[0][:filled], out[1][:filled], out[2][:filled], out_documents, out[3][:filled]


@helper
def _carry(starts, ends, characters, flags, word, last, stop, shift, out, filled):  # type: ignore[no-untyped-def]
    """Append the words from `word` on that begin before `stop`, moved by `shift`: the next word, words in `out`."""
    while word < last and starts[word] < stop:
        out[0][filled], out[1][filled] = starts[word] + shift, ends[word] + shift
        out[2][filled], out[3][filled] = characters[word], flags[word]
        word += 1
        filled += 1
    return word, filled
