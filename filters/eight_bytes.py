"""Bytes eight at a time, as one integer: how kernels pass quickly over what does not concern them.

A byte of `(x - EACH) & ~x & TOPS` is set where that byte of x is 0, and at most above the lowest such byte elsewhere
(Warren, Hacker's Delight, section 6-1).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.core.cgutils import create_struct_proxy
from numba.extending import intrinsic

from tokenmill.kernels import helper

U8 = npt.NDArray[np.uint8]

_EACH, _TOPS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)  # of the eight bytes of an integer
_BLANKS, _POINTS, _E2S = np.uint64(0x20) * _EACH, np.uint64(0x2E) * _EACH, np.uint64(0xE2) * _EACH
_TWOS, _E3S, _FROM_CC = np.uint64(0x02) * _EACH, np.uint64(0xE3) * _EACH, np.uint64(0x80 - 0x4C) * _EACH
_THREE, _EIGHT, _LAST = np.uint64(3), np.uint64(8), np.uint64(56)
_CASE, _LOWS = np.uint64(0x20) * _EACH, ~_TOPS
_FROM_A, _BEYOND_Z = np.uint64(0x80 - ord("a")) * _EACH, np.uint64(0x80 - ord("z") - 1) * _EACH


def _load8(typingctx, data, at):  # type: ignore[no-untyped-def]
    """The eight bytes from `at` on as one little-endian integer, wherever they lie; no bounds are checked."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array = create_struct_proxy(signature.args[0])(context, builder, arguments[0])  # type: ignore[no-untyped-call]
        address = builder.ptrtoint(array.data, arguments[1].type)
        integer = context.get_value_type(types.uint64)
        pointer = builder.inttoptr(builder.add(address, arguments[1]), integer.as_pointer())
        return builder.load(pointer, align=1)

    return types.uint64(data, types.int64), generate


def _store8(typingctx, data, at, value):  # type: ignore[no-untyped-def]
    """Write a uint64 as the eight bytes from `at` on, the lowest first; no bounds are checked."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array = create_struct_proxy(signature.args[0])(context, builder, arguments[0])  # type: ignore[no-untyped-call]
        address = builder.add(builder.ptrtoint(array.data, arguments[1].type), arguments[1])
        builder.store(arguments[2], builder.inttoptr(address, arguments[2].type.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(data, types.int64, types.uint64), generate


def _trailing_zeros(typingctx, value):  # type: ignore[no-untyped-def]
    """Zeros below the lowest bit of a uint64 that is set; 64 of 0."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], context.get_constant(types.boolean, False))

    return types.uint64(types.uint64), generate


def _leading_zeros(typingctx, value):  # type: ignore[no-untyped-def]
    """Zeros above the highest bit of a uint64 that is set; 64 of 0."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.ctlz(arguments[0], context.get_constant(types.boolean, False))

    return types.uint64(types.uint64), generate


load8: Any = intrinsic(_load8)
store8: Any = intrinsic(_store8)
trailing_zeros: Any = intrinsic(_trailing_zeros)
leading_zeros: Any = intrinsic(_leading_zeros)


@helper
def count_letters(data: U8, at: int, end: int) -> int:
    """How many ASCII letters stand at `at`, up to `end`; in the last eight bytes of `data` maybe fewer."""
    start = at
    while at < end and at + 8 <= len(data):
        block = load8(data, at)
        low = (block | _CASE) & _LOWS
        others = ~((low + _FROM_A) & ~(low + _BEYOND_Z)) | block
        others &= _TOPS
        if others:
            return min(at + int(trailing_zeros(others) >> _THREE), end) - start
        at += 8
    return min(at, end) - start


@helper
def count_small(data: U8, at: int, end: int) -> int:
    """How many small ASCII letters stand at `at`, up to `end`; in the last eight bytes of `data` maybe fewer."""
    start = at
    while at < end and at + 8 <= len(data):
        block = load8(data, at)
        low = block & _LOWS
        others = ~((low + _FROM_A) & ~(low + _BEYOND_Z)) | block
        others &= _TOPS
        if others:
            return min(at + int(trailing_zeros(others) >> _THREE), end) - start
        at += 8
    return min(at, end) - start


@helper
def copy_bytes(source: U8, at: int, end: int, target: U8, to: int) -> int:
    """Copy bytes at … end to index `to` of another array: the index behind them."""
    stop = to + end - at
    while at + 8 <= end:
        store8(target, to, load8(source, at))
        at += 8
        to += 8
    while to < stop:
        target[to] = source[at]
        at += 1
        to += 1
    return stop


@helper
def find_blank(data: U8, at: int, end: int) -> int:
    """First byte in at … end that is no ASCII character, or one up to 0x20, or `end`: all white space is among them."""
    while at + 8 <= end:
        block = load8(data, at)
        found = ((block - _BLANKS - _EACH) | block) & _TOPS
        if found:
            return at + int(trailing_zeros(found) >> _THREE)
        at += 8
    while at < end and 0x20 < data[at] < 0x80:
        at += 1
    return at


@helper
def find_byte(data: U8, at: int, end: int, byte: int) -> int:
    """First place of a byte in at … end, or `end`; eight bytes at a time."""
    wanted = np.uint64(byte) * _EACH
    while at + 8 <= end:
        other = load8(data, at) ^ wanted
        if (other - _EACH) & ~other & _TOPS:  # some byte of `other` is 0
            break
        at += 8
    while at < end and data[at] != byte:
        at += 1
    return at


@helper
def find_point(data: U8, at: int, end: int) -> int:
    """First byte in at … end that is `.` or 0xE2, with which an ellipsis begins, or `end`."""
    while at + 8 <= end:
        block = load8(data, at)
        point, lead = block ^ _POINTS, block ^ _E2S
        if (((point - _EACH) & ~point) | ((lead - _EACH) & ~lead)) & _TOPS:
            break
        at += 8
    while at < end and data[at] != 0x2E and data[at] != 0xE2:
        at += 1
    return at


@helper
def find_control(data: U8, at: int, end: int) -> int:
    """First byte in at … end below 0x20, or equal to 0xC2 or 0xE2, or `end`: among them are all ends of lines."""
    while at + 8 <= end:
        block = load8(data, at)
        lead = (block | _BLANKS) ^ _E2S
        if (((block - _BLANKS) & ~block) | ((lead - _EACH) & ~lead)) & _TOPS:
            break
        at += 8
    while at < end and data[at] >= 0x20 and data[at] | 0x20 != 0xE2:
        at += 1
    return at


@helper
def find_from_cc(data: U8, at: int, end: int) -> int:
    """First byte in at … end of 0xCC or more, with which a code point from U+0300 on begins, or `end`."""
    while at + 8 <= end:
        block = load8(data, at)
        found = ((block & _LOWS) + _FROM_CC) & block & _TOPS
        if found:
            return at + int(trailing_zeros(found) >> _THREE)
        at += 8
    while at < end and data[at] < 0xCC:
        at += 1
    return at


@helper
def copy_single_blanks(source: U8, at: int, end: int, target: U8, to: int) -> int:
    """Copy bytes from `at` on to index `to` of `target`, up to `end` or one that may begin other white space: how many.

    That is a blank where one precedes it in `target`, or nothing does; a control byte; or 0xC2 or 0xE1 … 0xE3. Near
    the end of `source` or of `target` maybe fewer are copied; up to eight bytes behind them in `target` are written.
    """
    begin = at
    blank = np.uint64(0x80) if to == 0 or target[to - 1] == 0x20 else np.uint64(0)
    while at < end and at + 8 <= len(source) and to + 8 <= len(target):
        block = load8(source, at)
        store8(target, to, block)
        other = block ^ _BLANKS
        blanks = ~(((other & _LOWS) + _LOWS) | other) & _TOPS  # just these, so that they can be told from their like
        found = ((block - _BLANKS) & ~block) | (blanks & ((blanks << _EIGHT) | blank))
        if block & _TOPS:
            even, odd = (block | _BLANKS) ^ _E2S, (block | _TWOS) ^ _E3S
            found |= ((even - _EACH) & ~even) | ((odd - _EACH) & ~odd)
        found &= _TOPS
        if found:
            return min(at + int(trailing_zeros(found) >> _THREE), end) - begin
        blank = blanks >> _LAST
        at += 8
        to += 8
    return min(at, end) - begin
