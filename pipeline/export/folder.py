"""The folder of an export: nothing of others in it, done when `export.json` says so.

`export.json` is written last and names every file with its hash. Until then `export.unfinished.json` says whose files
these are, so that what a killed export left is removed and made anew, and nothing else ever is.
"""

import json
from collections.abc import Mapping
from typing import Any

from tokenmill.manifests.receipts import canonical_json
from tokenmill.pipeline.storage import Storage

MARKER = "export.json"
_UNFINISHED = "export.unfinished.json"


def finished(output: Storage, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """The marker of an export of the same, whose files are all there with their sizes; else None.

    Raises:
        ValueError: another export is in the folder.
    """
    there = output.sizes()
    if MARKER not in there:
        return None
    value: dict[str, Any] = json.loads(output.read(MARKER))
    if differing := sorted(name for name, wanted in asked.items() if value.get(name) != wanted):
        told = "; ".join(f"{name} is {value.get(name)!r}, not {asked[name]!r}" for name in differing)
        raise ValueError(f"{output.root!r} holds another export ({told}): give another folder, or remove this one")
    return value if all(there.get(file["path"]) == file["bytes"] for file in value["files"]) else None


def begin(output: Storage, asked: Mapping[str, Any]) -> None:
    """Make the folder ours, and remove what an unfinished export left in it.

    Raises:
        ValueError: it has files that are no export's.
    """
    there = output.sizes()
    if there and MARKER not in there and _UNFINISHED not in there:
        raise ValueError(
            f"{output.root!r} has files that are no export's, such as {min(there)!r}: give a folder of its own"
        )
    output.write(_UNFINISHED, canonical_json(asked).encode())
    output.delete(MARKER)
    for path in there:
        if path != _UNFINISHED:
            output.delete(path)


def finish(output: Storage, value: Mapping[str, Any]) -> None:
    """Write the marker: the export is done."""
    output.write(MARKER, (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode())
    output.delete(_UNFINISHED)
    output.forget_drafts()
