"""Several runs under one name: where each lies, told from where a mixture of them lies, and reading from all.

A run's place is relative to the mixture's root where both are on this machine, or in one bucket: folders that are moved
or copied together keep their mixture. Places are worked out from names alone: links are not followed.
"""

import os
import posixpath
import time
from collections.abc import Callable, Sequence

from tokenmill.pipeline.storage import Storage


def place_of(run: str, root: str) -> str:
    """Where a run lies, as a mixture in `root` says it; both are roots of storages."""
    (run_head, run_path), (head, path) = _split(run), _split(root)
    near = run_head == head and (head or run_path.split("/")[0] == path.split("/")[0])
    return posixpath.relpath(f"/{run_path}", f"/{path}") if near else whole_root(run).rstrip("/")


def root_at(place: str, root: str) -> str:
    """The run's root that a mixture in `root` says lies at `place`."""
    if "://" in place or place.startswith("/"):
        return place
    head, path = _split(root) if "://" in root else ("", "")
    if head:
        return f"{head}/{posixpath.normpath(f'/{path}/{place}').lstrip('/')}"
    return os.path.normpath(os.path.join(root, place))


def whole_root(root: str) -> str:
    """A root as it is called wherever we stand."""
    return "/".join(_split(root))


def _split(root: str) -> tuple[str, str]:
    """What comes before a root's path: scheme and bucket, "" on this machine; and the path without its first "/"."""
    scheme, mark, rest = root.partition("://")
    if not mark:
        return "", os.path.abspath(root).lstrip("/")
    bucket, _, path = rest.partition("/")
    return f"{scheme}://{bucket}", posixpath.normpath(f"/{path}").lstrip("/")


class RunRoots:
    """As a `Storage` to read from, of several: path `1/…` is under the second's root."""

    def __init__(self, storages: Sequence[Storage]) -> None:
        self._storages = tuple(storages)

    @property
    def is_local(self) -> bool:
        """Whether all are folders of this machine."""
        return all(storage.is_local for storage in self._storages)

    def at(self, path: str) -> tuple[Storage, str]:
        """The storage that a path is of, and the path under its root."""
        number, _, inside = path.partition("/")
        return self._storages[int(number)], inside

    def url(self, path: str) -> str:
        """Full URL (or local path) of `path`."""
        storage, inside = self.at(path)
        return storage.url(inside)

    def read_range(
        self, path: str, offset: int, length: int, *, pause: Callable[[float], object] = time.sleep
    ) -> bytes:
        """See `Storage.read_range`."""
        storage, inside = self.at(path)
        return storage.read_range(inside, offset, length, pause=pause)
