"""The signal group `hashes`: one 128-bit hash of what a document says, blind only to how it is spaced and encoded.

What is hashed is the text in normal form (`normal_form`). Case, punctuation and digits are kept: texts that differ in
them are near duplicates and go through verification. CCNet (Wenzek et al. 2020) also folds case, digits and
punctuation, datatrove and Dolma hash the text as it is.
"""

import pyarrow as pa
import xxhash

from tokenmill.filters.normal_form import normalised_texts
from tokenmill.manifests.schemas import HASHES


def content_hashes(texts: pa.LargeStringArray) -> pa.RecordBatch:
    """xxh3-128 of each normalised text.

    Args:
        texts: one document a row, null where there is none.

    Returns:
        `manifests.schemas.HASHES`, one row a document in order; null where the text is null. Empty text has a hash.
    """
    data, starts, ends = normalised_texts(texts)
    view, spans = memoryview(data.data), zip(starts.tolist(), ends.tolist(), strict=True)
    digests = [xxhash.xxh3_128_digest(view[start:end]) for start, end in spans]
    mask = texts.is_null().to_numpy(zero_copy_only=False) if texts.null_count else None
    return pa.record_batch([pa.array(digests, HASHES.field("content_hash").type, mask=mask)], schema=HASHES)
