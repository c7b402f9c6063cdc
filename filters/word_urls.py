"""Whether a run of characters is a URL or an e-mail address, and so one word."""

from tokenmill.filters.kernels import kernel
from tokenmill.filters.unicode_classes import DIGIT, LETTER, LOWER
from tokenmill.filters.word_runs import BITS, CODE


@kernel
def is_url(run, first, last):  # type: ignore[no-untyped-def]
    """Whether the code points are a URL or e-mail address: (scheme://) (user@) host.tld (:port) (/path)."""
    if _is_host_and_path(run, first, last):
        return True
    at = first
    while at < last and (
        run[at, BITS] & (LETTER | DIGIT)
        or run[at, CODE] == ord("_")
        or run[at, CODE] == ord("+")
        or run[at, CODE] == ord("-")
        or run[at, CODE] == ord(".")
    ):
        at += 1
    slashes = at + 3 < last and run[at, CODE] == ord(":") and run[at + 1, CODE] == run[at + 2, CODE] == ord("/")
    found = slashes and at - first >= 2 and _is_host_and_path(run, at + 3, last)
    at = first + 1
    while at < last - 1 and not found:
        found = run[at, CODE] == ord("@") and _is_host_and_path(run, at + 1, last)
        at += 1
    return found


@kernel
def _is_host_and_path(run, first, last):  # type: ignore[no-untyped-def]
    """Whether the code points are labels and points, the last label of 2 to 63 small letters, then port and path."""
    at = start = first
    num_labels = 0
    small = True
    while at < last and (_in_label(run[at, CODE]) or run[at, CODE] == ord(".")):
        if run[at, CODE] == ord("."):
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
    if at < last and run[at, CODE] == ord(":"):
        start = at
        at += 1
        while at < last and run[at, BITS] & DIGIT:
            at += 1
        if not 2 <= at - start - 1 <= 5:
            return False
    return at == last or run[at, CODE] == ord("/") or run[at, CODE] == ord("?") or run[at, CODE] == ord("#")


@kernel
def _ends_label(code):  # type: ignore[no-untyped-def]
    """Whether a host's label may begin or end so."""
    return (
        ord("a") <= code <= ord("z")
        or ord("0") <= code <= ord("9")
        or ord("A") <= code <= ord("Z")
        or 0xA1 <= code <= 0xFFFF
    )


@kernel
def _in_label(code):  # type: ignore[no-untyped-def]
    return _ends_label(code) or code == ord("-") or code == ord("_")
