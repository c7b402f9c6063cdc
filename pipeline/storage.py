"""The only reader and writer of files: local disk, S3 and whatever else fsspec knows, by the URL alone.

A commit is atomic. Everything is written to a temporary file first and hashed; a local commit renames it, a store
gets one PUT or one multipart completion at the final key. Output names carry the key of the task that wrote them, so a
commit done twice writes the same bytes to the same name and is harmless.

S3 endpoints and credentials come from the environment, as for any AWS tool (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …).
"""

import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

import fsspec
import pyarrow as pa
import xxhash

from tokenmill.pipeline.retries import ShortAnswerError, is_past_end, retried

_CHUNK_BYTES = 4 << 20
DRAFTS = "tmp"  # under a local root; `gc` empties it


@dataclass(frozen=True)
class Stored:
    """A committed file: path under the root, size and xxh3-128 (hex) of its bytes."""

    path: str
    bytes: int
    hash: str


@dataclass(frozen=True)
class LocalFile:
    """A file on local disk: path under the root, size, and when it was written or touched last (ns since 1970)."""

    path: str
    bytes: int
    modified_ns: int


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
        self._opened: tuple[int, Any, str] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (Storage, (self.root,))

    @property
    def _fs_and_base(self) -> tuple[Any, str]:
        """The file system, made anew in a forked process: s3fs refuses to serve one with its parent's connections."""
        process = os.getpid()
        if self._opened is None or self._opened[0] != process:
            filesystem, base = fsspec.core.url_to_fs(self.root)
            self._opened = (process, filesystem, base.rstrip("/"))
        return self._opened[1:]

    @property
    def is_local(self) -> bool:
        """Whether the root is a folder of this machine (or one mounted like it)."""
        return "file" in _protocols(self._fs_and_base[0])

    def url(self, path: str) -> str:
        """Full URL (or local path) of `path`."""
        return f"{self.root}/{path}"

    def at(self, path: str) -> tuple["Storage", str]:
        """The folder that a path lies in, and the path under it: of one folder, itself (see `loader.roots`)."""
        return self, path

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
        """The whole file; tried again on errors that pass, as `read_range` is."""

        def read() -> bytes:
            with self.open(path) as file:
                return file.read()

        return retried(read, f"reading {self.url(path)}")

    def read_range(
        self, path: str, offset: int, length: int, *, pause: Callable[[float], object] = time.sleep
    ) -> bytes:
        """`length` bytes from `offset`; fewer only where the file ends.

        Args:
            path: under the root.
            offset: first byte.
            length: how many.
            pause: see `retried`.

        Raises:
            FileNotFoundError: no such file; names the full URL.
            PermissionError: it may not be read; names the full URL.
            OSError: time-outs, dropped connections, 5xx, throttling or short answers until the last try.
        """
        what = f"reading bytes {offset} … {offset + length - 1} of {self.url(path)}"
        try:
            return retried(lambda: self._range(path, offset, length), what, pause)
        except FileNotFoundError:
            raise FileNotFoundError(f"no such file: {self.url(path)}") from None
        except PermissionError as error:
            raise PermissionError(
                f"{what} is not allowed ({error}): check the credentials, and who may read it"
            ) from error

    def _range(self, path: str, offset: int, length: int) -> bytes:
        """One try."""
        filesystem, key = self._fs_and_base[0], self._key(path)
        try:
            data: bytes = filesystem.cat_file(key, start=offset, end=offset + length)
        except OSError as error:
            if is_past_end(error):  # local disk gives no bytes there, stores refuse
                return b""
            raise
        if len(data) < length and not self.is_local:
            filesystem.invalidate_cache()
            if filesystem.info(key)["size"] >= offset + length:
                raise ShortAnswerError(f"{len(data)} bytes came")
        return data

    def mapped(self, path: str) -> Any:
        """A file of a local root as Arrow's memory map: what is read of it is a view, never to be written to."""
        return pa.memory_map(self._key(path))

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

    def local_files(self, folder: str) -> list[LocalFile]:
        """Files right in a folder of local disk; those that others delete meanwhile may be missing, or not."""
        found: list[LocalFile] = []
        with suppress(FileNotFoundError), os.scandir(self._key(folder)) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.is_file():
                        status = entry.stat()
                        found.append(LocalFile(f"{folder}/{entry.name}", status.st_size, status.st_mtime_ns))
        return found

    def touch(self, path: str) -> None:
        """Set a local file's time to now; one that is not there is no error."""
        with suppress(FileNotFoundError):
            os.utime(self._key(path))

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
            folder = f"{self._fs_and_base[1]}/{DRAFTS}"
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
                os.rmdir(f"{self._fs_and_base[1]}/{DRAFTS}")

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

    def commit(self, path: str, *, durable: bool = True, replace: bool = True) -> Stored:
        """Hash what was written and put it, whole or not at all, at `path` under the storage's root.

        `{hash}` in `path` becomes the hash of the content. Without `durable`, a power failure may leave the file torn:
        for what is checked whenever it is read. Without `replace`, a file of that name and size stays as it is.
        """
        self.file.flush()
        self.file.seek(0)
        size, digest = content_hash(self.file)
        if durable:
            os.fsync(self.file.fileno())
        self.file.close()
        path = path.replace("{hash}", digest)
        if replace or self._storage.sizes(path).get(path) != size:
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
