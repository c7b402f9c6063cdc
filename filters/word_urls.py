"""Whether a run of characters is a URL or an e-mail address, and so one word."""

# ruff: noqa: SIM109 - a kernel that looks into a tuple takes longer to compile

from tokenmill.filters.unicode_classes import DIGIT, LETTER, LOWER
from tokenmill.filters.word_runs import BITS, CODE
from tokenmill.kernels import helper

# Code points: `ord` in a kernel would take Python's strings into it, and seconds to compile.
_POINT, _COLON, _SLASH, _PLUS, _HYPHEN, _UNDERSCORE, _AT, _HASH, _QUESTION = map(ord, ".:/+-_@#?")
_0, _9, _A, _Z, _SMALL_A, _SMALL_Z = map(ord, "09AZaz")


@helper
def is_url(run, first, last):  # type: ignore[no-untyped-def]
    """Whether the code points are a URL or e-mail address: (scheme://) (user@) host.tld (:port) (/path)."""
    if _is_host_and_path(run, first, last):
        return True
    at = first
    while at < last and (
        run[at, BITS] & (LETTER | DIGIT)
        or run[at, CODE] == _UNDERSCORE
        or run[at, CODE] == _PLUS
        or run[at, CODE] == _HYPHEN
        or run[at, CODE] == _POINT
    ):
        at += 1
    slashes = at + 3 < last and run[at, CODE] == _COLON and run[at + 1, CODE] == run[at + 2, CODE] == _SLASH
    found = slashes and at - first >= 2 and _is_host_and_path(run, at + 3, last)
    at = first + 1
    while at < last - 1 and not found:
        found = run[at, CODE] == _AT and _is_host_and_path(run, at + 1, last)
        at += 1
    return found


@helper
def _is_host_and_path(run, first, last):  # type: ignore[no-untyped-def]
    """Whether the code points are labels and points, the last label of 2 to 63 small letters, then port and path."""
    at = start = first
    num_labels = 0
    small = True
    while at < last and (_in_label(run[at, CODE]) or run[at, CODE] == _POINT):
        if run[at, CODE] == _POINT:
            if not 1 <= at - start <= 64 or not (_ends_label(run[start, CODE]) and _ends_label(run[at - 1, CODE])):
                return False
            num_labels += 1
            start = at + 1
            small = True
        elif run[at, BITS] & LOWER == 0:
            small = False
        at += 1
    if num_labels == 0 or not small or not 2 <= at - start <= 63:
        return False
    if at < last and run[at, CODE] == _COLON:
        start = at
        at += 1
        while at < last and run[at, BITS] & DIGIT:
            at += 1
        if not 2 <= at - start - 1 <= 5:
            return False
    return at == last or run[at, CODE] == _SLASH or run[at, CODE] == _QUESTION or run[at, CODE] == _HASH


@helper
def _ends_label(code):  # type: ignore[no-untyped-def]
    """Whether a host's label may begin or end so."""
    return _SMALL_A <= code <= _SMALL_Z or _0 <= code <= _9 or _A <= code <= _Z or 0xA1 <= code <= 0xFFFF


@helper
def _in_label(code):  # type: ignore[no-untyped-def]
    return _ends_label(code) or code == _HYPHEN or code == _UNDERSCORE
