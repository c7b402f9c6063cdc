"""The only reader and writer of files: local disk, S3 and whatever else fsspec knows, by the URL alone.

A commit is atomic. Everything is written to a temporary file first and hashed; a local commit renames it, a store
gets one PUT or one multipart completion at the final key. Output names carry the key of the task that wrote them, so a
commit done twice writes the same bytes to the same name and is harmless.

S3 endpoints and credentials come from the environment, as for any AWS tool (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …).
"""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any, BinaryIO

import fsspec
import xxhash

_CHUNK_BYTES = 4 << 20
_TEMPORARY = "tmp"  # under a local root; `gc` empties it


@dataclass(frozen=True)
class Stored:
    """A committed file: path under the root, size and xxh3-128 (hex) of its bytes."""

    path: str
    bytes: int
    hash: str


def content_hash(file: IO[bytes]) -> tuple[int, str]:
    """Size and xxh3-128 (hex) of what is left to read in `file`."""
    hasher, size = xxhash.xxh3_128(), 0
    while chunk := file.read(_CHUNK_BYTES):
        hasher.update(chunk)
        size += len(chunk)
    return size, hasher.hexdigest()


@contextmanager
def scratch_folder() -> Iterator[str]:
    """A folder of this machine for what a library spills; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tokenmill-") as folder:
        yield folder


def open_url(url: str) -> BinaryIO:
    """Open a raw file for reading: seekable, binary, undecompressed."""
    filesystem, path = fsspec.core.url_to_fs(url)
    file: BinaryIO = filesystem.open(path, "rb")
    return file


class Storage:
    """A folder, on local disk or in an object store. Paths are relative to it, with forward slashes."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")

    def __reduce__(self) -> tuple[Any, ...]:
        return (Storage, (self.root,))

    @cached_property
    def _fs_and_base(self) -> tuple[Any, str]:
        filesystem, base = fsspec.core.url_to_fs(self.root)
        return filesystem, base.rstrip("/")

    @property
    def is_local(self) -> bool:
        """Whether the root is a folder of this machine (or one mounted like it)."""
        return "file" in _protocols(self._fs_and_base[0])

    def url(self, path: str) -> str:
        """Full URL (or local path) of `path`."""
        return f"{self.root}/{path}"

    def _key(self, path: str) -> str:
        return f"{self._fs_and_base[1]}/{path}"

    def native(self, path: str) -> str:
        """The path or URL by which a library opens the file itself, on local disk or through `filesystem`."""
        return os.path.abspath(self._key(path)) if self.is_local else self.url(path)

    @property
    def filesystem(self) -> Any:
        """The fsspec filesystem below."""
        return self._fs_and_base[0]

    def open(self, path: str) -> BinaryIO:
        """Open for reading: seekable, binary. Raises FileNotFoundError naming the full URL."""
        try:
            file: BinaryIO = self._fs_and_base[0].open(self._key(path), "rb")
        except FileNotFoundError:
            raise FileNotFoundError(f"no such file: {self.url(path)}") from None
        return file

    def read(self, path: str) -> bytes:
        """The whole file."""
        with self.open(path) as file:
            return file.read()

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; fewer only where the file ends."""
        data: bytes = self._fs_and_base[0].cat_file(self._key(path), start=offset, end=offset + length)
        return data

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Bytes of every file below `prefix`, by path under the root; empty when there is none."""
        filesystem, base = self._fs_and_base
        top = f"{base}/{prefix}".rstrip("/")
        filesystem.invalidate_cache()
        try:
            found = filesystem.find(top, detail=True)
        except FileNotFoundError:
            return {}
        return {name[len(base) + 1 :]: info["size"] for name, info in sorted(found.items())}

    def delete(self, path: str) -> None:
        """Remove a file; one that is not there is no error."""
        filesystem = self._fs_and_base[0]
        try:
            filesystem.rm_file(self._key(path))
        except FileNotFoundError:
            return

    @contextmanager
    def temporary(self) -> Iterator["Draft"]:
        """A draft: write to `.file`, then `.commit(path)`. A draft that is not committed leaves nothing behind."""
        if self.is_local:
            folder = f"{self._fs_and_base[1]}/{_TEMPORARY}"
            os.makedirs(folder, exist_ok=True)
        else:
            folder = tempfile.gettempdir()
        draft = Draft(self, f"{folder}/{uuid.uuid4().hex}")
        try:
            yield draft
        finally:
            draft.discard()

    def write(self, path: str, data: bytes) -> Stored:
        """Commit `data` at `path`."""
        with self.temporary() as draft:
            draft.file.write(data)
            return draft.commit(path)

    def forget_drafts(self) -> None:
        """Remove the folder of drafts from a local root that others will read, if none is being written."""
        if self.is_local:
            with suppress(OSError):
                os.rmdir(f"{self._fs_and_base[1]}/{_TEMPORARY}")

    def _place(self, local: str, path: str) -> None:
        filesystem, key = self._fs_and_base[0], self._key(path)
        if self.is_local:
            os.makedirs(os.path.dirname(key), exist_ok=True)
            os.replace(local, key)
        else:
            filesystem.put_file(local, key)


class Draft:
    """A file being written, in a temporary place until it is committed."""

    def __init__(self, storage: Storage, local: str) -> None:
        self._storage = storage
        self._local = local
        self.file: BinaryIO = open(local, "w+b")  # noqa: SIM115 - closed by commit or discard

    def commit(self, path: str) -> Stored:
        """Hash what was written and put it, whole or not at all, at `path` under the storage's root.

        `{hash}` in `path` becomes the hash of the content.
        """
        self.file.flush()
        self.file.seek(0)
        size, digest = content_hash(self.file)
        os.fsync(self.file.fileno())
        self.file.close()
        path = path.replace("{hash}", digest)
        self._storage._place(self._local, path)
        return Stored(path, size, digest)

    def discard(self) -> None:
        """Drop the draft; after a commit on local disk there is nothing left to drop."""
        try:
            self.file.close()  # on a full disk it tries to write what is left, fails again, and is closed
        finally:
            if os.path.exists(self._local):
                os.unlink(self._local)


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
