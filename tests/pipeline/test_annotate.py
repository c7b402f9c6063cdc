"""annotate over several row groups: signals and edits stay with their rows, whatever group has none."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.pipeline.corpus import prose, write_recipe, write_texts
from tests.pipeline.runs import run_inline
from tokenmill.filters.c4 import C4Params, c4
from tokenmill.filters.edits import apply_edits
from tokenmill.filters.gopher import gopher_quality_signals
from tokenmill.filters.splitter import SplitTexts
from tokenmill.manifests.schemas import ROWS_PER_GROUP
from tokenmill.pipeline.edited import edited_texts
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import open_groups

RECIPE = """
name: groups
output: unused
tokenizer: {train: {vocab_size: 400, sample_bytes: 1MiB}}
sources:
  - name: notes
    reader: jsonl
    paths: ["{folder}/notes.jsonl"]
    filters: [{c4: {min_sentences: null}}, {gopher_quality: {min_stop_words: null, min_words: 5}}]
sequences: {length: 64}
"""


def test_edits_stay_with_their_rows_when_a_row_group_has_none(tmp_path: Path):
    clean = [prose(number, 2) for number in range(8)]
    edited = [f"{text}\nno mark at this line's end\nlast line of the text here." for text in clean]
    # row groups: no edit at all, edits, none, edits at the last row alone
    texts = [clean[row % 8] for row in range(ROWS_PER_GROUP)]
    texts += [edited[row % 8] for row in range(ROWS_PER_GROUP)]
    texts += [clean[row % 8] for row in range(ROWS_PER_GROUP)]
    texts += [*(clean[row % 8] for row in range(99)), edited[0]]
    write_texts(tmp_path / "notes.jsonl", texts)
    run_inline(write_recipe(tmp_path, RECIPE), tmp_path / "out")

    whole = pa.array(texts, pa.large_string())
    expected = apply_edits(whole, c4(SplitTexts(whole), C4Params(), 0)[1], 0)
    assert expected[ROWS_PER_GROUP].as_py() != texts[ROWS_PER_GROUP]
    storage = Storage(str(tmp_path / "out"))
    (edits,) = storage.sizes("edits")
    (documents,) = storage.sizes("documents")
    with open_groups(storage, documents) as groups:
        assert len(groups) == 4
        found = [(text, first) for text, first in edited_texts(storage, groups, [edits])]
    assert [first for _, first in found] == [0, ROWS_PER_GROUP, 2 * ROWS_PER_GROUP, 3 * ROWS_PER_GROUP]
    assert pa.concat_arrays([text for text, _ in found]).to_pylist() == expected.to_pylist()
    # the group after the edit rule read the edited text
    (signals,) = storage.sizes("signals/gopher_quality")
    assert (
        pq.read_table(tmp_path / "out" / signals).to_pydict()
        == gopher_quality_signals(SplitTexts(expected)).to_pydict()
    )
