"""A version of a run, as people name it: RUN is the newest one in a folder, RUN@3 its version 3."""

import re

from tokenmill.pipeline.sheet import published_or_error
from tokenmill.pipeline.steps.publish import Published, read_version, versions
from tokenmill.pipeline.storage import Storage

_NUMBERED = re.compile(r"(?P<folder>.+)@(?P<number>\d+)")


def open_version(named: str) -> tuple[Storage, Published]:
    """The run's folder and the version that is meant.

    Raises:
        ValueError: the folder holds no published run, or not that version; says what there is.
    """
    match = _NUMBERED.fullmatch(named)
    if match is None:
        storage = Storage(named)
        return storage, published_or_error(storage)
    storage = Storage(match["folder"])
    published_or_error(storage)
    there = {int(path.split("-")[1].split(".")[0]): path for path in versions(storage)}
    number = int(match["number"])
    if number not in there:
        raise ValueError(f"{storage.root!r} has no version {number}: it has {', '.join(map(str, there))}")
    return storage, read_version(storage, there[number])
