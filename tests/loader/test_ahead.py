"""Working ahead: the same items in order, errors where they belong, and no thread left behind."""

import gc
import threading
from collections.abc import Iterator

import pytest

from tokenmill.pipeline.loader.ahead import Ahead

NAME = "ahead-of-the-test"


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def test_items_come_in_order_and_end_once():
    ahead = Ahead(range(100), 3, NAME)
    assert list(ahead) == list(range(100))
    assert list(ahead) == []
    ahead.close()
    assert threads() == []


def test_no_more_are_made_than_were_asked_for():
    made: list[int] = []
    waiting = threading.Event()

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            if number == 4:
                waiting.set()
            yield number

    ahead = Ahead(items(), 3, NAME)
    assert (next(ahead), next(ahead)) == (0, 1)
    assert waiting.wait(60)
    ahead.close()
    assert made == [0, 1, 2, 3, 4]


def test_an_error_comes_where_the_item_would_have():
    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise KeyError("two")

    ahead = Ahead(items(), 5, NAME)
    assert (next(ahead), next(ahead)) == (0, 1)
    with pytest.raises(KeyError, match="two"):
        next(ahead)
    assert next(ahead, None) is None


def test_one_may_feed_another_and_both_end():
    first = Ahead(iter(int, 1), 2, NAME)
    second = Ahead((number + 1 for number in first), 1, NAME)
    assert [next(second) for _ in range(5)] == [1] * 5
    first.close()
    second.close()
    assert threads() == []


def test_one_that_is_dropped_ends():
    ahead = Ahead(iter(int, 1), 2, NAME)
    assert next(ahead) == 0
    assert len(threads()) == 1
    del ahead
    gc.collect()
    assert threads() == []
