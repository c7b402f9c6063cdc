"""The Arrow schema of every table at rest.

Tables of one part have the same rows in the same order and the same row groups, so that they join by position: row i of
`signals/*`, `decisions` and `documents` is one document, whose identity is (part key, i).
"""

import pyarrow as pa

#: A row group of a part's tables ends with whichever comes first, so its borders depend on the records alone.
ROWS_PER_GROUP = 1024
TEXT_BYTES_PER_GROUP = 8 << 20

# One row a raw record that could be a document, in raw order. Exactly one of three holds:
# a document (`gate` and `failure` null), gated (`gate` names the bound), failed (`failure` says why).
DOCUMENTS = pa.schema(
    [
        # null when gated (but for the sample kept to look at), failed, or erased after a takedown
        pa.field("text", pa.large_string()),
        pa.field("gate", pa.string()),  # the gate's name, such as "gates.max_record_bytes"
        pa.field("failure", pa.string()),  # a short reason without spaces, such as "truncated_gzip"
        pa.field("raw_file", pa.string()),  # path under the source's root
        pa.field("raw_offset", pa.int64()),  # where the record starts in the raw file; see each reader for the unit
        pa.field("raw_bytes", pa.int64()),  # bytes of the record's payload as read, before extraction
        pa.field("url", pa.string()),
        pa.field("mime", pa.string()),
        pa.field("http_status", pa.int16()),
        pa.field("date", pa.string()),  # ISO 8601, as the crawl gives it
        pa.field("encoding", pa.string()),  # detected
        pa.field("repository", pa.string()),  # code
        pa.field("path", pa.string()),  # code: path inside the repository
        pa.field("licence", pa.string()),
    ]
)

# Beside `documents`, of a source of reader `chat`: a row a conversation, null where it has no text. The text is the
# contents of the turns, in order, with two line ends between each two.
TURN = pa.struct(
    [
        pa.field("role", pa.string(), nullable=False),  # "system", "user", "assistant", "tool"
        pa.field("start", pa.int64(), nullable=False),  # of its content in the text: byte offset, UTF-8
        pa.field("end", pa.int64(), nullable=False),  # exclusive
        pa.field("branch", pa.string()),  # "chosen" or "rejected" of a preference pair; else null
        # JSON of the message's other fields (tool_calls, name, tool_call_id), keys as in the data; null: none
        pa.field("fields", pa.string()),
    ]
)
TURNS = pa.schema(
    [
        pa.field("turns", pa.list_(TURN)),
        pa.field("tools", pa.string()),  # JSON of the list of tool schemas, keys as in the data; null: none
        pa.field("kind", pa.string()),  # "conversation", "preference", "verifiable"
        pa.field("answer", pa.string()),  # of a verifiable prompt: what can be checked
        pa.field("checker", pa.string()),  # how: "exact", "number", "math", "code", … as the data says
    ]
)

# Requests that `tokenmill regenerate` sent to an endpoint and what came of them, in the order in which that was known.
# A request may stand here several times: an answer counts before a failure, the earliest answer before others.
ASKED = pa.schema(
    [
        pa.field("request", pa.binary(16), nullable=False),  # xxh3-128 of the body's JSON and the sample's number
        pa.field("document", pa.string(), nullable=False),  # "part:row", the first of the run that asked for it
        pa.field("sample", pa.int32(), nullable=False),
        pa.field("body", pa.string(), nullable=False),  # JSON, as it was sent
        pa.field("message", pa.string()),  # JSON of the answer's message; null: it failed
        pa.field("finish_reason", pa.string()),  # as the endpoint says: "stop", "length", "tool_calls", …
        pa.field("model", pa.string()),  # as the endpoint says
        pa.field("prompt_tokens", pa.int32()),  # as the endpoint says
        pa.field("completion_tokens", pa.int32()),
        pa.field("failure", pa.string()),  # short, without spaces, such as "timeout" or "http_400"; null: it did not
        pa.field("detail", pa.string()),  # of a failure, for people
        pa.field("tries", pa.int32(), nullable=False),
        pa.field("known", pa.int64(), nullable=False),  # when, ns since 1970
    ]
)

# Byte spans of a text (as the rule read it, after the rules before it) and what stands there instead.
# Sorted by (row, start); spans of one row do not overlap.
EDITS = pa.schema(
    [
        pa.field("row", pa.int32(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),  # byte offset, UTF-8
        pa.field("end", pa.int64(), nullable=False),  # byte offset, exclusive
        pa.field("replacement", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
    ]
)

LANGUAGE = pa.schema(
    [
        pa.field("language", pa.string()),  # short form of the model's label (filters/labels.py), best first
        pa.field("language_score", pa.float32()),  # 0 … 1
        pa.field("second_language", pa.string()),
        pa.field("second_language_score", pa.float32()),
        pa.field("third_language", pa.string()),
        pa.field("third_language_score", pa.float32()),
    ]
)

# The signal group `language`; of the characters in paragraphs, the fraction in those of another best language.
LANGUAGE_SIGNALS = LANGUAGE.append(pa.field("other_language_fraction", pa.float32()))

HASHES = pa.schema([pa.field("content_hash", pa.binary(16))])  # xxh3-128 of the normalised text

# The signal group `hashes`: of a text as it stands after every edit rule; null where there is no text.
CONTENT = HASHES.append(pa.field("text_bytes", pa.int64()))

# `reason` is null for a kept row; else "gates.…", "failed.…" or the name of the first violated bound, such as
# "gopher_quality.min_words".
DECISIONS = pa.schema(
    [
        pa.field("kept", pa.bool_(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("stratum", pa.string()),  # "train", "validation/en" …; null when not kept. *pack* adds copies
    ]
)

# One row a removal, sorted by (removed_part, removed_row).
LEDGER = pa.schema(
    [
        pa.field("removed_part", pa.string(), nullable=False),
        pa.field("removed_row", pa.int32(), nullable=False),
        pa.field("keeper_part", pa.string(), nullable=False),
        pa.field("keeper_row", pa.int32(), nullable=False),
        pa.field("similarity", pa.float32(), nullable=False),  # 1.0 for an exact duplicate
        pa.field("kind", pa.string(), nullable=False),  # "exact" | "near" | "earlier run"
        pa.field("keeper_run", pa.string()),  # of an earlier run's keeper: that run, as `dedup.against` gives it
    ]
)

# One row a document that shares its cluster with others, sorted by (part, row). Apart from the ledger because a cluster
# grows with the run while what was removed from an older generation, and so its packed rows, stays.
CLUSTERS = pa.schema(
    [
        pa.field("part", pa.string(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("cluster_part", pa.string(), nullable=False),  # a cluster is named by its first document
        pa.field("cluster_row", pa.int32(), nullable=False),
        # members, keepers included; of an earlier run those that it kept
        pa.field("cluster_documents", pa.int32(), nullable=False),
        pa.field("cluster_run", pa.string()),  # as LEDGER's keeper_run, where the first document is an earlier run's
    ]
)

# What people asked to take down: a file a request, never changed. `what` is "part:row", a URL or a domain; a copy is
# what the ledger had removed for one of the documents.
REMOVALS = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),  # "document" | "copy" | "url" | "domain"
        pa.field("what", pa.string(), nullable=False),
        pa.field("content_hash", pa.binary(16)),  # of a document that was to be packed: its copies stay out with it
        pa.field("reason", pa.string(), nullable=False),  # in the words of whoever asked
        pa.field("requested", pa.string(), nullable=False),  # ISO 8601, UTC
    ]
)

# One row a document that is taken down, sorted by (part, row), and the first request that names it.
TAKEDOWN = pa.schema(
    [
        pa.field("part", pa.string(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("standing", pa.bool_(), nullable=False),  # kept by *select* and by the ledger: *pack* leaves it out
        pa.field("why", pa.string(), nullable=False),  # "document", "copy", "url" or "domain": what of it was named
        pa.field("reason", pa.string(), nullable=False),
        pa.field("requested", pa.string(), nullable=False),
    ]
)

# The documents that a tokenizer is trained on, one a row, sorted by (part, row).
SAMPLE = pa.schema(
    [
        pa.field("part", pa.string(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("component", pa.string(), nullable=False),  # the name in `mixture.weights` it was drawn for
        pa.field("text_bytes", pa.int64(), nullable=False),  # after every edit
    ]
)

# What *pack* left out of a unit, sorted by (part, row); nothing where it left out nothing.
LEFT_OUT = pa.schema(
    [
        pa.field("part", pa.string(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),  # "pack.empty" | "pack.longer_than_row"
        pa.field("text_bytes", pa.int64(), nullable=False),  # after every edit
        pa.field("tokens", pa.int64(), nullable=False),
    ]
)


def signature_schema(num_permutations: int) -> pa.Schema:
    """MinHash signatures: `num_permutations` little-endian uint32 minima a document, null where there is no text.

    As bytes of fixed size a signature has no levels to decode: Parquet reads it five times as fast as a list.
    """
    return pa.schema([pa.field("signature", pa.binary(4 * num_permutations))])


#: Of a prompt whose answer is checked, as TURNS has them.
CHECKS = pa.schema([pa.field("answer", pa.string(), nullable=False), pa.field("checker", pa.string())])


def sequence_schema(length: int, dtype: pa.DataType, maskable: bool = False, checked: bool = False) -> pa.Schema:
    """Columns of a sequence shard: rows of `length` token ids and the documents in them.

    Args:
        length: tokens a row (L).
        dtype: `pa.uint16()` or `pa.uint32()`.
        maskable: whether rows say which tokens are answers, as those of SFT do: run lengths over the tokens in the
            order of the pieces, alternately given and answered, the first of them given (and perhaps 0 long).
        checked: whether rows are prompts, with what their answers are checked against, and how.
    """
    fields = _sequence_fields(length, dtype)
    if maskable:
        fields.append(pa.field("maskable", pa.list_(pa.field("item", pa.int32(), nullable=False)), nullable=False))
    return pa.schema([*fields, *(CHECKS if checked else ())])


def _sequence_fields(length: int, dtype: pa.DataType) -> list[pa.Field]:
    return [
        pa.field("tokens", pa.list_(pa.field("item", dtype, nullable=False), length), nullable=False),
        pa.field("document_lengths", pa.list_(pa.field("item", pa.int32(), nullable=False)), nullable=False),
        pa.field("document_parts", pa.list_(pa.field("item", pa.int32(), nullable=False)), nullable=False),
        pa.field("document_rows", pa.list_(pa.field("item", pa.int32(), nullable=False)), nullable=False),
        pa.field("document_starts", pa.list_(pa.field("item", pa.int32(), nullable=False)), nullable=False),
        pa.field("valid", pa.int32(), nullable=False),
    ]


# The shard table: one row a sequence shard, what the loader needs to fetch and check any one record batch.
SHARDS = pa.schema(
    [
        pa.field("component", pa.string(), nullable=False),  # "source/stratum"
        pa.field("unit", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),  # under the run's root
        pa.field("hash", pa.string(), nullable=False),  # xxh3-128 of the file, hex
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),  # Σ valid
        pa.field("documents", pa.int64(), nullable=False),  # pieces whose document_start is 0
        pa.field("schema_bytes", pa.int64(), nullable=False),  # length of the schema message at the file's start
        pa.field("batch_offsets", pa.list_(pa.int64()), nullable=False),  # first byte of each record batch's message
        pa.field("batch_lengths", pa.list_(pa.int32()), nullable=False),  # bytes, metadata and body
        pa.field("batch_rows", pa.list_(pa.int32()), nullable=False),
        pa.field("batch_hashes", pa.list_(pa.binary(16)), nullable=False),  # xxh3-128 of those bytes
    ]
)
