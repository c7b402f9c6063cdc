"""Near duplicates looked at on the text: what `dedup: {verify: text}` reads beside signatures.

Each part that holds a document in question is read once, row group by row group, and only those documents become
shingle sets: 8 bytes a shingle, about 1.3 times the bytes of their text, held together.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.dedup.jaccard import ShingleSets, shingle_sets
from tokenmill.manifests.receipts import Output
from tokenmill.pipeline.compared import TEXT, compared_texts
from tokenmill.pipeline.edited import edited_conversations
from tokenmill.pipeline.kept import edit_outputs
from tokenmill.pipeline.recipe import Dedup, Recipe
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import open_groups

I64 = npt.NDArray[np.int64]


def text_outputs(recipe: Recipe, source: str, tables: Mapping[str, Output]) -> list[Output]:
    """What a part's text is read from: its documents, its edits in the order in which they apply, maybe its turns."""
    return read_for_texts(recipe.dedup, tables, [entry.group for entry in recipe.source(source).filters])


def read_for_texts(dedup: Dedup, tables: Mapping[str, Output], order: list[str]) -> list[Output]:
    """As `text_outputs`, by the names of the groups in order."""
    turns = [] if dedup.of == TEXT else [tables["turns"]]
    return [tables["documents"], *edit_outputs(tables, order), *turns]


def sets_of_rows(storage: Storage, outputs: Sequence[Output], rows: I64, dedup: Dedup) -> Iterator[ShingleSets]:
    """Sets of some rows of a part, ascending; of what `dedup.of` says of each text."""
    edits = [output.path for output in outputs[1:] if output.name != "turns"]
    turns_path = None if dedup.of == TEXT else outputs[-1].path
    with open_groups(storage, outputs[0].path) as documents:
        for texts, first_row, turns in edited_conversations(storage, documents, edits, turns_path):
            begin, end = np.searchsorted(rows, [first_row, first_row + len(texts)])
            if begin < end:
                compared = compared_texts(texts, turns, dedup.of)
                yield shingle_sets(compared.take(pa.array(rows[begin:end] - first_row)), dedup.minhash.shingling)
