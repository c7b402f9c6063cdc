"""What the survivor policy compares, as integers that sort: of two duplicates the one with the lesser keys survives.

Each term of a policy prefers the greater value: the source's priority, the length, the date, a signal such as a
classifier's score. A document that has no value for a term comes behind all that have one. Keys are exact: values that
differ have keys that differ, but for -0 and 0, which are equal.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from tokenmill.kernels import helper

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

PRIORITY, LONGEST, NEWEST = "priority", "longest", "newest"
#: Terms of a policy that every document has; any other is a signal, "<group>.<signal>".
TERMS = (PRIORITY, LONGEST, NEWEST)

#: Time of a document without a date: before all others.
NO_DATE = np.iinfo(np.int64).min
_SIGN = np.uint64(1 << 63)
_LAST = np.uint64((1 << 64) - 1)
_BAD = -1


def survivor_keys(policy: Sequence[str], columns: Mapping[str, npt.NDArray[Any]]) -> list[U64]:
    """Keys that sort ascending as the policy asks: uint64[n] a term, the first term counting most.

    Args:
        policy: terms, such as ("priority", "classifier.edu.score", "longest").
        columns: by term, n values each: int64 (priority, bytes of text, `seconds_of` dates) or float64 (signals, NaN
            where a document has none).

    Raises:
        ValueError: a term has no column, or one of another type.
    """
    return [_descending(term, columns) for term in policy]


def _descending(term: str, columns: Mapping[str, npt.NDArray[Any]]) -> U64:
    if term not in columns:
        raise ValueError(
            f"no column for term {term!r} of the survivor policy; there are {', '.join(columns) or 'none'}"
        )
    values = columns[term]
    if values.dtype == np.int64:
        return ~(np.ascontiguousarray(values).view(np.uint64) ^ _SIGN)
    if values.dtype == np.float64:
        bits = (values + 0.0).view(np.uint64)  # -0 becomes 0
        ascending = np.where(bits & _SIGN != 0, ~bits, bits | _SIGN)
        return np.where(np.isnan(values), _LAST, ~ascending)
    raise ValueError(f"the column of term {term!r} is {values.dtype}: give int64 or float64")


def seconds_of(dates: pa.StringArray) -> I64:
    """Seconds since 1970 (UTC) of ISO 8601 dates: int64[n], NO_DATE where there is none or it is no such date.

    A year, a month, a day or a time to the second, `-` and `:` left out or not; fractions of a second are dropped; with
    `Z` or an offset such as `+01:00`, without either it is UTC. White space around it does not count.
    """
    texts = dates.cast(pa.large_string())
    _, offsets, data = texts.buffers()
    characters = np.frombuffer(data, np.uint8) if data else np.zeros(0, np.uint8)
    bounds = np.zeros(1, np.int64)
    if len(texts):
        bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    characters.flags.writeable = bounds.flags.writeable = False  # to Numba a writable array is another type
    seconds: I64 = _parse_dates(characters, bounds)
    seconds[texts.is_null().to_numpy(zero_copy_only=False)] = NO_DATE
    return seconds


@njit(nogil=True, cache=True)
def _parse_dates(data: U8, bounds: I64) -> I64:
    seconds = np.empty(len(bounds) - 1, np.int64)
    for row in range(len(seconds)):
        at, end = bounds[row], bounds[row + 1]
        while at < end and data[at] <= 0x20:
            at += 1
        while end > at and data[end - 1] <= 0x20:
            end -= 1
        seconds[row] = _parse_date(data, at, end)
    return seconds


@helper
def _parse_date(data: U8, at: int, end: int) -> int:
    year, at = _number(data, at, end, 4)
    month, day = 1, 1
    if year < 1:
        return NO_DATE
    dashes = at < end and data[at] == 0x2D
    if at < end and data[at] != 0x54 and data[at] != 0x20:
        month, at = _number(data, at + dashes, end, 2)
        if at < end and data[at] != 0x54 and data[at] != 0x20:
            if dashes and data[at] != 0x2D:
                return NO_DATE
            day, at = _number(data, at + dashes, end, 2)
        elif not dashes:
            return NO_DATE  # YYYYMM may be YYMMDD
    if month < 1 or month > 12 or day < 1 or day > _days_of(year, month):
        return NO_DATE
    time = 0
    if at < end:
        separated = data[at] == 0x54 or data[at] == 0x20
        if dashes and not separated:
            return NO_DATE
        time = _parse_time(data, at + separated, end)  # 14 digits in a row are a crawl's stamp
        if time == NO_DATE:
            return NO_DATE
    days: int = _days_before(year, month, day)
    return days * 86400 + time


@helper
def _parse_time(data: U8, at: int, end: int) -> int:
    """Seconds of a time of day less its offset from UTC; NO_DATE if it is none."""
    hour, at = _number(data, at, end, 2)
    minute = second = 0
    if _is_digit(data, at, end) or (at < end and data[at] == 0x3A):
        minute, at = _number(data, at + (data[at] == 0x3A), end, 2)
        if _is_digit(data, at, end) or (at < end and data[at] == 0x3A):
            second, at = _number(data, at + (data[at] == 0x3A), end, 2)
            if at < end and (data[at] == 0x2E or data[at] == 0x2C):
                at += 1
                while _is_digit(data, at, end):
                    at += 1
    if hour < 0 or minute < 0 or second < 0 or hour > 23 or minute > 59 or second > 60:
        return NO_DATE
    offset, sign = 0, 0
    if at < end and (data[at] == 0x5A or data[at] == 0x7A):
        at += 1
    elif at < end and (data[at] == 0x2B or data[at] == 0x2D):
        sign = 1 if data[at] == 0x2B else -1
        hours, at = _number(data, at + 1, end, 2)
        minutes = 0
        if at < end:
            minutes, at = _number(data, at + (data[at] == 0x3A), end, 2)
        if hours < 0 or minutes < 0 or hours > 23 or minutes > 59:
            return NO_DATE
        offset = hours * 3600 + minutes * 60
    return hour * 3600 + minute * 60 + second - sign * offset if at == end else NO_DATE


@helper
def _number(data: U8, at: int, end: int, digits: int) -> tuple[int, int]:
    """So many decimal digits at `at`, and the byte behind them; _BAD where they are not there."""
    value = 0
    if at + digits > end:
        return _BAD, at
    for k in range(at, at + digits):
        if not _is_digit(data, k, end):
            return _BAD, at
        value = value * 10 + int(data[k]) - 0x30
    return value, at + digits


@helper
def _is_digit(data: U8, at: int, end: int) -> bool:
    return at < end and 0x30 <= data[at] <= 0x39


@helper
def _days_of(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


@helper
def _days_before(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01, in the calendar of today at all times."""
    before = year - 1
    days = before * 365 + before // 4 - before // 100 + before // 400 + day - 1
    for earlier in range(1, month):
        days += _days_of(year, earlier)
    return days - 719162
