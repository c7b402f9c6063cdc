"""What is taken down and erased leaves nothing in the folder of answers: requests, answers and what was chosen."""

import json
from collections.abc import Iterable

from tokenmill.pipeline.regenerate.ledger import Ledger
from tokenmill.pipeline.storage import Storage

#: Under a run's folder: a folder a source.
FOLDER = "regenerated"
MARKER, LEFT_OUT, ANSWERS, LEDGER = "regenerated.json", "left_out.jsonl", "answers", "ledger"


def erase_answers(storage: Storage, documents: Iterable[str]) -> None:
    """Take documents, "part:row", out of every source's folder; a ledger that the recipe put elsewhere stays as it is.

    A changed folder loses its marker: the next `tokenmill regenerate` writes it anew.
    """
    gone = set(documents)
    for source in sorted({path.split("/")[1] for path in storage.sizes(FOLDER)}):
        folder = Storage(storage.url(f"{FOLDER}/{source}"))
        Ledger(Storage(folder.url(LEDGER))).forget(gone)
        for path in folder.sizes():
            if path == LEFT_OUT or path.startswith(f"{ANSWERS}/"):
                lines = folder.read(path).splitlines(keepends=True)
                left = [line for line in lines if _document(line) not in gone]
                if left != lines:
                    folder.delete(MARKER)
                    folder.write(path, b"".join(left))
        folder.forget_drafts()


def _document(line: bytes) -> str:
    value = json.loads(line)
    return str(value["document"] if "document" in value else value["regenerated"]["document"])
