"""Record batches kept on a node's disk, by the hash of their bytes: whatever manifest asks, the name is the content.

    <folder>/tokenmill-batches/<first two hex digits>/<xxh3-128>

Files are written aside and renamed, and checked whenever they are read, so ranks and jobs share a folder without a word
to each other. A file's time is when it was last used; the least recently used go first. Folders are grouped by their
leading bits and each group keeps its share of the limit, so that making room looks at some hundred files, not at all: a
group is looked at when a process has written a 64th of its share there. With up to eight processes filling it at once,
the cache stays within its limit; each one more may pass it by a 64th.
"""

import logging
import time

import xxhash

from tokenmill.pipeline.storage import DRAFTS, LocalFile, Storage

DEFAULT_BYTES = 64 << 30
_FOLDER = "tokenmill-batches"
_FOLDERS = 256
_LEAST_GROUP_BYTES = 128 << 20
_DRAFT_SECONDS = 3600  # a draft this old was left by a process that was killed

_log = logging.getLogger(__name__)


class BatchCache:
    """A folder of record batches. It never fails: what cannot be kept is not kept, which is said once in the log.

    Args:
        folder: on local disk; made when the first batch is kept.
        most_bytes: limit on the files in it, of all processes together.
    """

    def __init__(self, folder: str, most_bytes: int = DEFAULT_BYTES) -> None:
        self._storage = Storage(f"{folder.rstrip('/')}/{_FOLDER}")
        if not self._storage.is_local:
            raise ValueError(f"cache_dir is {folder!r}: give a folder on this machine's disk")
        if most_bytes < 1:
            raise ValueError(f"cache_bytes is {most_bytes}: give the bytes that the cache may take, or no cache_dir")
        groups = 1
        while groups < _FOLDERS and most_bytes // (2 * groups) >= _LEAST_GROUP_BYTES:
            groups *= 2
        self._width = _FOLDERS // groups
        self._group_bytes = most_bytes // groups
        self._new_bytes: dict[int, int] = {}  # written here, by group, since its folders were last looked at
        self._has_swept = False
        self._has_warned = False

    def read(self, digest: bytes) -> bytes | None:
        """The bytes of this hash; None where they are not. A file with other bytes is removed."""
        path = _path(digest)
        try:
            data = self._storage.read(path)
            if xxhash.xxh3_128_digest(data) == digest:
                self._storage.touch(path)
                return data
            _log.warning(
                "cached record batch %s has other bytes than its name says: it is fetched anew", self._storage.url(path)
            )
            self._storage.delete(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(error)
        return None

    def write(self, digest: bytes, data: bytes) -> None:
        """Keep the bytes of this hash, and make room for them."""
        try:
            if not self._has_swept:
                self._has_swept = True
                self._remove_old_drafts()
            with self._storage.temporary() as draft:
                draft.file.write(data)
                draft.commit(_path(digest), durable=False)
            group = digest[0] // self._width
            self._new_bytes[group] = new = self._new_bytes.get(group, self._group_bytes) + len(data)
            if new * 64 >= self._group_bytes:
                self._make_room(group)
        except OSError as error:
            self._warn(error)

    def _make_room(self, group: int) -> None:
        """Remove a group's least recently used files once it is over its share, down to 7/8 of that."""
        self._new_bytes[group] = 0
        folders = range(group * self._width, (group + 1) * self._width)
        files = [file for folder in folders for file in self._storage.local_files(f"{folder:02x}")]
        held = sum(file.bytes for file in files)
        if held <= self._group_bytes:
            return
        for file in sorted(files, key=_last_used):
            self._storage.delete(file.path)
            held -= file.bytes
            if held * 8 <= self._group_bytes * 7:
                return

    def _remove_old_drafts(self) -> None:
        oldest = time.time_ns() - _DRAFT_SECONDS * 10**9
        for file in self._storage.local_files(DRAFTS):
            if file.modified_ns < oldest:
                self._storage.delete(file.path)

    def _warn(self, error: OSError) -> None:
        if not self._has_warned:
            self._has_warned = True
            _log.warning(
                "the cache in %s does not work (%s: %s): reading goes on, from the shards where it must; this is said "
                "once",
                self._storage.root,
                type(error).__name__,
                error,
            )


def _path(digest: bytes) -> str:
    return f"{digest[:1].hex()}/{digest.hex()}"


def _last_used(file: LocalFile) -> tuple[int, str]:
    return file.modified_ns, file.path
