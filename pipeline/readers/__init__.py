"""Raw files → records, streamed. One module a format, each a generator `read_<format>(piece, options)`."""

_COMPRESSED = (".gz", ".bad", ".zst", ".zstd", ".lz4")
_ARC = (".arc", ".arc.gz")


def is_sliceable(reader: str, path: str) -> bool:
    """Whether slices of the file make sense to a plan; where they do not, slice 0 takes all and the others nothing.

    Args:
        reader: "warc", "wet", "jsonl", "parquet", "code" or "chat".
        path: the file's name; only a plan goes by it, the readers go by the first bytes.
    """
    name = path.lower()
    if reader in ("warc", "wet"):
        return not name.endswith((*_ARC, ".lz4", ".zst", ".zstd"))
    if reader in ("jsonl", "chat"):
        return not name.endswith(_COMPRESSED)
    return reader == "parquet" or (reader == "code" and name.endswith(".parquet"))
