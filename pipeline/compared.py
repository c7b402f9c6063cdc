"""What *deduplicate* compares of a document: its text, or of a conversation what one side said.

With `dedup: {of: prompt}` two conversations are duplicates whose users' turns are, with `of: answer` those whose
assistants' are; one that has no such turn is compared as a whole. Content hash, signature and shingles are all of this
text; the hash has a table of its own, since that of the whole text says more: the split, what was taken down.
"""

import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.filters.turns import ASSISTANT, USER, role_texts, turn_spans

TEXT = "text"
#: Roles whose turns are compared, by `dedup.of`.
ROLES = {"prompt": USER, "answer": ASSISTANT}


def compared_texts(texts: pa.LargeStringArray, turns: pa.RecordBatch | None, of: str) -> pa.LargeStringArray:
    """What is compared of n texts; null where the text is.

    Args:
        texts: after every edit.
        turns: n rows of TURNS, as they lie in them; not asked for where texts are compared.
        of: the recipe's `dedup.of`.
    """
    if of == TEXT:
        return texts
    assert turns is not None, "the recipe wants reader `chat` for this"
    return pc.coalesce(role_texts(texts, turn_spans(turns.column("turns")), ROLES[of]), texts)


def hashes_table(of: str) -> str:
    """The table whose content hashes are compared."""
    return "signals/hashes" if of == TEXT else "signals/compared"
