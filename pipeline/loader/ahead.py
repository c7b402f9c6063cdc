"""A thread that makes the next things while the last ones are used."""

import weakref
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from threading import Semaphore, Thread, current_thread
from typing import Generic, TypeVar

T = TypeVar("T")


class _Shared(Generic[T]):
    """What the thread and its owner share; the thread never holds the owner, which can so be collected."""

    def __init__(self, depth: int) -> None:
        self.ready: SimpleQueue[T | _End] = SimpleQueue()
        self.room = Semaphore(depth)
        self.closed = False


class _End:
    """Stands behind the last item.

    Attributes:
        error: why there are no more; None where the items had come to their end.
    """

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Ahead(Iterator[T]):
    """Iterates over `items` in a thread of its own, `depth` of them ahead of its owner.

    An error of `items` is raised where the item would have come. The thread ends with the items, with `close`, with
    this object, and before the interpreter does.

    Args:
        items: is iterated over in the thread.
        depth: items made and not yet taken.
        name: of the thread.
    """

    def __init__(self, items: Iterable[T], depth: int, name: str) -> None:
        self._shared: _Shared[T] = _Shared(depth)
        self._thread = Thread(target=_run, args=(items, self._shared), name=name, daemon=True)
        self._end: _End | None = None
        self.close = weakref.finalize(self, _close, self._shared, self._thread)
        self._thread.start()

    def __next__(self) -> T:
        found = self._end or self._shared.ready.get()
        if isinstance(found, _End):
            self._end = _End(None)
            raise found.error or StopIteration
        self._shared.room.release()
        return found


def _run(items: Iterable[T], shared: _Shared[T]) -> None:
    error: BaseException | None = None
    try:
        iterator = iter(items)
        while True:
            shared.room.acquire()
            if shared.closed:
                break
            shared.ready.put(next(iterator))
    except StopIteration:
        pass
    except BaseException as found:  # raised again by the owner
        error = found
    shared.ready.put(_End(error))


def _close(shared: _Shared[T], thread: Thread) -> None:
    """End the thread after the item it is at."""
    shared.closed = True
    shared.room.release()
    if thread is not current_thread():  # the collector may run in any
        thread.join()
