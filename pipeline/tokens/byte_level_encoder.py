"""Byte-level BPE as one pass over a batch's UTF-8: added pieces, segments, pieces, the cache, merges on a miss."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import normalizers

from tokenmill.dedup.shingles import text_buffers
from tokenmill.pipeline.tokens.added_pieces import added_pieces, with_blank
from tokenmill.pipeline.tokens.byte_level import ByteLevel
from tokenmill.pipeline.tokens.byte_level_kernel import AHEAD, encode_batch, find_changes, keep_pieces
from tokenmill.pipeline.tokens.byte_pairs import ROOM_PER_BYTE, first_ranks, pair_table
from tokenmill.pipeline.tokens.letter_classes import letter_classes
from tokenmill.pipeline.tokens.piece_cache import CACHE_BYTES, SHORT_BYTES, SHORT_IDS, piece_cache
from tokenmill.pipeline.tokens.whole_pieces import whole_pieces

U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]


class ByteLevelEncoder:
    """Encodes batches with a `ByteLevel`; its cache makes it one thread's."""

    def __init__(self, tokenizer: ByteLevel, cache_bytes: int = CACHE_BYTES) -> None:
        """Make the tables; the cache takes at most `cache_bytes`."""
        self._pattern, self._nfc, self._prefix = tokenizer.pattern, tokenizer.nfc, tokenizer.prefix
        pairs = pair_table(tokenizer.merges)
        self._tables = (tokenizer.first_ids, first_ranks(tokenizer.first_ids, pairs), *pairs)
        self._whole, self._added = whole_pieces(tokenizer.whole), added_pieces(tokenizer.added)
        self._cache = piece_cache(cache_bytes)
        self._room = np.empty(ROOM_PER_BYTE << 12, np.uint64)
        self._ahead = np.empty((2, AHEAD), np.int64)
        self._keep_vocabulary(tokenizer)

    def _keep_vocabulary(self, tokenizer: ByteLevel) -> None:
        """Most words that a text shows first are tokens: the cache begins with them, where it has room for more."""
        pieces = [piece for piece in tokenizer.pieces if len(piece) <= SHORT_BYTES]
        if 2 * len(pieces) > len(self._cache.short):
            return
        bounds = np.zeros(len(pieces) + 1, np.int64)
        np.cumsum([len(piece) for piece in pieces], out=bounds[1:])
        data, out = np.frombuffer(b"".join(pieces), np.uint8), np.empty(SHORT_BYTES, np.uint32)
        keep_pieces(data, bounds, *self._tables, *self._whole, *self._cache, self._room, out)

    def encode(self, texts: pa.LargeStringArray, head: Sequence[int], tail: Sequence[int]) -> tuple[U32, I64]:
        """Ids of all texts, uint32, and how many each has, int64[n]; none of a null.

        Args:
            texts: one a row.
            head: ids before each text.
            tail: ids behind each.
        """
        texts = self._prepared(texts)
        data, bounds = text_buffers(texts)
        most = int(bounds[-1] - bounds[0]) + (len(head) + len(tail)) * len(texts)
        out = np.empty(most + SHORT_IDS, np.uint32)
        lengths = np.zeros(len(texts), np.int64)
        state = np.array([0, -1, 0, 0, 0], np.int64)
        present = texts.is_valid().to_numpy(zero_copy_only=False)
        ends = (np.array(head, np.uint32), np.array(tail, np.uint32))
        fixed = (*self._added, *self._pattern, *letter_classes(), *self._tables, *self._whole, *self._cache)
        while need := encode_batch(data, bounds, present, *ends, *fixed, self._room, self._ahead, state, lengths, out):
            self._room = np.empty(ROOM_PER_BYTE * need, np.uint64)
        return out[: state[4]], lengths

    def _prepared(self, texts: pa.LargeStringArray) -> pa.LargeStringArray:
        if self._nfc:
            data, bounds = text_buffers(texts)
            changes = np.zeros(len(texts), np.bool_)
            find_changes(data, bounds, texts.is_valid().to_numpy(zero_copy_only=False), *letter_classes(), changes)
            if changes.any():
                nfc, rows = normalizers.NFC(), np.flatnonzero(changes)
                changed = pa.array([nfc.normalize_str(texts[row].as_py()) for row in rows.tolist()], texts.type)
                texts = pc.replace_with_mask(texts, pa.array(changes), changed)
        if self._prefix:
            texts = pc.if_else(pc.starts_with(texts, " "), texts, with_blank(texts))
        return texts
