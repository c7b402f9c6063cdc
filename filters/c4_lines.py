"""The kernels of `filters.c4` that judge a line; those that write edits are in `filters.c4_edits`.

Phrases are found by one automaton over the line in lower case (Aho and Corasick 1975). Of the characters beyond ASCII
only the Kelvin sign (U+212A) becomes a lower-case ASCII letter that a phrase could hold: U+0130 becomes "i" and a dot
above, and no phrase ends in "i".
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.filters.eight_bytes import find_blank, find_byte
from tokenmill.filters.scan import I32, U8, character_at, skip_space, space_at
from tokenmill.kernels import allocating_helper, helper

I16 = npt.NDArray[np.int16]

POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
#: What a line may mention, as bits.
LOREM_IPSUM, JAVASCRIPT, POLICY_PHRASE = 1, 2, 4
#: What a line's bytes may hold, as bits, and the bytes of a block of which that is known at once.
MENTION, BRACKET, CURLY = 1, 2, 4
HINT_BYTES = 64
#: Each holds one of the three letters of `hint_blocks`.
_PHRASES = {"lorem ipsum": LOREM_IPSUM, "javascript": JAVASCRIPT, **dict.fromkeys(POLICY, POLICY_PHRASE)}

#: Names of rules; an edit's is its index here.
RULES = (
    "c4.strip",
    "c4.remove_citations",
    "c4.max_word_characters",
    "c4.terminal_punctuation",
    "c4.min_words_per_line",
    "c4.drop_javascript_lines",
    "c4.drop_policy_lines",
)
STRIP, CITATIONS, _LONG_WORD, _PUNCTUATION, _FEW_WORDS, _JAVASCRIPT, _POLICY = range(7)
KEPT = -1


class Rules(NamedTuple):
    """C4Params for kernels, with a number of words that every line has and a length that no word has for None."""

    terminal_punctuation: bool
    min_words: int
    max_word_characters: int
    remove_citations: bool
    drop_javascript: bool
    drop_policy: bool


class Phrases(NamedTuple):
    r"""An automaton over bytes in either case: from state s on byte b to `next_state[s, letter[b]]`.

    Attributes:
        letter: uint8[256]; 0 for bytes of no phrase.
        next_state: int16[states, letters]; it starts in 0.
        found: uint8[states]: bits of the phrases that end in it.
        digits: int32, ascending: the zeros of every script's ten digits, which follow each other. For `\d`.
    """

    letter: U8
    next_state: I16
    found: U8
    digits: I32


@lru_cache(maxsize=1)
def phrase_automaton() -> Phrases:
    """The automaton of the phrases, built once a process."""
    letters = sorted(set("".join(_PHRASES)))
    letter = np.zeros(256, np.uint8)
    for k, character in enumerate(letters, start=1):
        letter[ord(character)] = letter[ord(character.upper())] = k
    prefixes = sorted(
        {phrase[:end] for phrase in _PHRASES for end in range(len(phrase) + 1)}, key=lambda p: (len(p), p)
    )
    state = {prefix: k for k, prefix in enumerate(prefixes)}
    next_state = np.zeros((len(prefixes), len(letters) + 1), np.int16)
    found = np.zeros(len(prefixes), np.uint8)
    for prefix in prefixes:
        for k, character in enumerate(letters, start=1):
            text = prefix + character
            next_state[state[prefix], k] = next(state[text[i:]] for i in range(len(text) + 1) if text[i:] in state)
        found[state[prefix]] = sum({bit for phrase, bit in _PHRASES.items() if prefix.endswith(phrase)})
    digits = [code for code in range(0x110000) if chr(code).isdecimal() and int(chr(code)) == 0]
    return Phrases(letter, next_state, found, np.array(digits, np.int32))


@allocating_helper
def hint_blocks(data: U8, begin: int, end: int) -> U8:
    """What may be in each block of HINT_BYTES bytes of `data` from `begin` to `end`: bits MENTION, BRACKET, CURLY.

    Without a branch a byte, so that many are compared at once; `| 0x20` turns capitals into small letters (and more).
    Each phrase holds one of "ips", "jav", "coo", "rms", "vac"; the block in which that begins has the bit.
    """
    hints = np.zeros((end - begin + HINT_BYTES - 1) // HINT_BYTES, np.uint8)
    for block in range(len(hints)):
        first = begin + block * HINT_BYTES
        mention = bracket = curly = np.uint8(0)
        if first + HINT_BYTES + 2 <= len(data):
            for k in range(HINT_BYTES):
                bracket |= np.uint8(data[first + k] == 0x5B)
                curly |= np.uint8(data[first + k] == 0x7B)
                a, b, c = data[first + k] | 0x20, data[first + k + 1] | 0x20, data[first + k + 2] | 0x20
                mention |= np.uint8((a == 0x69) & (b == 0x70) & (c == 0x73))
                mention |= np.uint8((a == 0x6A) & (b == 0x61) & (c == 0x76))
                mention |= np.uint8((a == 0x63) & (b == 0x6F) & (c == 0x6F))
                mention |= np.uint8((a == 0x72) & (b == 0x6D) & (c == 0x73))
                mention |= np.uint8((a == 0x76) & (b == 0x61) & (c == 0x63))
            hints[block] = mention * MENTION | bracket * BRACKET | curly * CURLY
        else:
            hints[block] = MENTION | BRACKET | CURLY
    return hints


@helper
def hints_of(hints: U8, begin: int, stop: int) -> int:
    """The bits of the blocks in which bytes begin … stop lie."""
    found = 0
    for block in range(begin // HINT_BYTES, (stop + HINT_BYTES - 1) // HINT_BYTES):
        found |= int(hints[block])
    return found


@helper
def judge(
    data: U8, begin: int, stop: int, hint: int, rules: Rules, phrases: Phrases, clean: U8
) -> tuple[int, int, int]:
    """Of a stripped line: the rule that removes it or KEPT, its mentions that count, whether its `{` does."""
    most = rules.max_word_characters
    if stop - begin > most and _longest_word(data, begin, stop) > most:
        return _LONG_WORD, 0, 0
    cited = rules.remove_citations and hint & BRACKET != 0
    length = _without_citations(data, begin, stop, phrases.digits, clean) if cited else stop - begin
    if rules.terminal_punctuation:
        ended = _is_ended(clean, 0, length) if cited else _is_ended(data, begin, stop)
        if not ended:
            return _PUNCTUATION, 0, 0
    if _count_words(data, begin, stop, rules.min_words) < rules.min_words:
        return _FEW_WORDS, 0, 0
    mentions = curly = 0
    if cited:
        mentions = _mentions(clean, 0, length, phrases)
    elif hint & MENTION:
        mentions = _mentions(data, begin, stop, phrases)
    if hint & CURLY:
        curly = int(find_byte(data, begin, stop, 0x7B) < stop)
    if rules.drop_javascript and mentions & JAVASCRIPT:
        return _JAVASCRIPT, mentions, 0
    if rules.drop_policy and mentions & POLICY_PHRASE:
        return _POLICY, mentions, curly
    return KEPT, mentions, curly


@helper
def _count_words(data: U8, begin: int, stop: int, enough: int) -> int:
    """Words between white space, counted no further than `enough`."""
    words = 0
    at = begin
    while at < stop and words < enough:
        words += 1  # `at` is the first byte of a word
        at = find_blank(data, at, stop)
        while at < stop and space_at(data, at, stop) == 0:
            at = find_blank(data, at + 1, stop)
        at = skip_space(data, at, stop)
    return words


@helper
def _longest_word(data: U8, begin: int, stop: int) -> int:
    """Code points of the longest word between white space."""
    longest = length = 0
    for at in range(begin, stop):
        length = 0 if space_at(data, at, stop) else length + int(data[at] & 0xC0 != 0x80)
        longest = max(longest, length)
    return longest


@helper
def _is_ended(data: U8, begin: int, stop: int) -> bool:
    """Whether a line ends in one of `. ? ! " '` and not in `...`."""
    if begin == stop:
        return False
    last = data[stop - 1]
    if last == 0x2E:
        return not (stop - begin >= 3 and data[stop - 2] == 0x2E and data[stop - 3] == 0x2E)
    return bool(last == 0x3F or last == 0x21 or last == 0x22 or last == 0x27)


@helper
def _mentions(data: U8, begin: int, stop: int, phrases: Phrases) -> int:
    """Bits of the phrases in a line, in any case."""
    state = np.int64(0)
    found = 0
    at = begin
    while at < stop:
        letter = phrases.letter[data[at]]
        if data[at] == 0xE2 and at + 2 < stop and data[at + 1] == 0x84 and data[at + 2] == 0xAA:  # Kelvin
            letter = phrases.letter[0x6B]
            at += 2
        state = np.int64(phrases.next_state[state, letter])
        found |= phrases.found[state]
        at += 1
    return found


@helper
def _without_citations(data: U8, begin: int, stop: int, digits: I32, clean: U8) -> int:
    """Copy a line without its citations to `clean`: bytes copied."""
    size = 0
    at = begin
    while at < stop:
        if data[at] == 0x5B:
            end = citation_end(data, at, stop, digits)
            if end > at:
                at = end
                continue
        clean[size] = data[at]
        size += 1
        at += 1
    return size


@helper
def citation_end(data: U8, at: int, stop: int, digits: I32) -> int:
    """End of the citation that begins with the `[` at `at`; `at` if it is none."""
    for name in (b"edit]", b"citation needed]"):
        if stop - at > len(name):
            same = 0
            while same < len(name) and data[at + 1 + same] == name[same]:
                same += 1
            if same == len(name):
                return at + 1 + same
    end = at + 1
    while end < stop and data[end] != 0x5D:
        size = _digit_size(data, end, digits)
        if size == 0:
            return at
        end += size
    return end + 1 if end < stop else at


@helper
def _digit_size(data: U8, at: int, digits: I32) -> int:
    """Bytes of the decimal digit at `at`; 0 if it is none."""
    code, size = character_at(data, at)
    place = np.searchsorted(digits, code, side="right") - 1
    return size if place >= 0 and code - digits[place] < 10 else 0
