"""How often Python looks for cycles among the objects of a process: seldom, where many are made and few are cycles."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

#: New objects that may hold others, after which Python looks for cycles among them, and how many such looks make it
#: look among older ones, and how many of those among all. Of its own accord it takes 700, 10 and 10.
_LOOKS = (50_000, 20, 50)


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Look for cycles seldom meanwhile.

    A task makes millions of rows and lists that die by their counts, with hardly a cycle among them; imports make
    hundreds of thousands that stay. To look among all these as often as Python does took 3 of 19 s of a part of
    conversations.
    """
    before = gc.get_threshold()
    gc.set_threshold(*_LOOKS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
