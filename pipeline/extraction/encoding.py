"""Bytes → valid UTF-8: the encoding is detected, and what is declared is a hint.

Order: byte order mark; UTF-8 when the bytes are valid UTF-8 (text in another encoding almost never is); then what the
transport declares, what the page declares in its first 1,024 bytes, and what uchardet finds in 128 KiB. The first of
these that leaves at most one character in 1,000 undecodable is taken, else the one that leaves the fewest. So a page
cut in the middle of a character, or with one bad byte, keeps its encoding; a wrong declaration loses to detection.
"""

import codecs
import re
from collections.abc import Iterator

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
#: WHATWG labels mean these supersets of what Python calls by the same name.
_SUPERSETS = {"euc_kr": "cp949", "gbk": "gb18030", "shift_jis": "cp932", "big5": "big5hkscs"}
_META_CHARSET = re.compile(rb"<(?:meta|\?xml)[^>]{0,300}?(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
#: Control characters that no text needs; tab, line feed and carriage return stay.
_CONTROLS = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127])
_SURROGATES = re.compile("[\ud800-\udfff]")
_UNCLEAN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_CONTROL_BYTES = bytes(_CONTROLS)


def to_utf8(content: bytes, declared: str | None, *, is_html: bool) -> tuple[bytes, str]:
    """The content as valid UTF-8 without byte order mark, and the name of the encoding it was in.

    Args:
        content: as stored.
        declared: what the transport says, such as the charset of an HTTP header.
        is_html: whether the content may declare its encoding itself.
    """
    for bom, encoding in _BOMS:
        if content.startswith(bom):
            return _valid(content[len(bom) :], encoding), encoding
    # ESC tells of ISO-2022, NUL of UTF-16 without a mark: both are valid UTF-8 by accident.
    if b"\x1b" not in content and b"\0" not in content[:1024]:
        whole = _valid_utf8(content)
        if whole is not None:
            return whole, "utf-8"
    best: tuple[int, bytes, str] | None = None
    for encoding in _candidates(content, declared, is_html):
        text = content.decode(encoding, "replace")
        bad = text.count("\ufffd")
        if best is None or bad < best[0]:
            best = bad, text.encode(errors="replace"), encoding
        if bad * 1000 <= len(text):
            return text.encode(errors="replace"), encoding
    assert best is not None, "uchardet always names an encoding"
    return best[1], best[2]


def clean(text: str) -> str:
    """Text that any UTF-8 reader takes: lone surrogates become U+FFFD, control characters go."""
    if text.isascii():  # most are, and bytes are looked through four times as fast
        raw = text.encode()
        left = raw.translate(None, _CONTROL_BYTES)
        return text if len(left) == len(raw) else left.decode()
    if _UNCLEAN.search(text) is None:
        return text
    return _SURROGATES.sub("\ufffd", text).translate(_CONTROLS)


def _valid_utf8(content: bytes) -> bytes | None:
    """The content if it is UTF-8, less a character cut off at its end; else None."""
    try:
        codecs.utf_8_decode(content, "strict", True)
    except UnicodeDecodeError as error:
        cut_short = error.reason == "unexpected end of data" and error.end == len(content)
        return content[: error.start] if cut_short else None
    return content


def _valid(content: bytes, encoding: str) -> bytes:
    valid = _valid_utf8(content) if encoding == "utf-8" else None
    return content.decode(encoding, "replace").encode(errors="replace") if valid is None else valid


def _candidates(content: bytes, declared: str | None, is_html: bool) -> Iterator[str]:
    meta = _META_CHARSET.search(content, 0, 1024) if is_html else None
    for label in (declared, None if meta is None else meta[1].decode("ascii", "replace")):
        known = None if label is None else map_encoding_to_html5(label.strip(), fallback_utf8=False)
        # A page whose declaration can be read as ASCII is not in UTF-16 (WHATWG: prescan).
        if known is not None and not (meta is not None and known.startswith("utf-16")):
            yield _SUPERSETS.get(known, known)
    found = detect_encoding(content) or "utf-8"
    yield _SUPERSETS.get(found, found)
