"""SentencePiece's BPE as one pass over a batch's UTF-8: added pieces, safe cuts, the cache, merges on a miss.

To `tokenizers` a whole text is one piece. Here it is cut where that is safe (`safe_cuts`), so that pieces come again
and a cache finds them.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.dedup.shingles import text_buffers
from tokenmill.pipeline.tokens.added_pieces import added_pieces, with_blank
from tokenmill.pipeline.tokens.byte_pairs import ROOM_PER_BYTE, pair_table
from tokenmill.pipeline.tokens.piece_cache import SHORT_IDS, piece_cache
from tokenmill.pipeline.tokens.safe_cuts import BLANK, MARK, joined_pairs
from tokenmill.pipeline.tokens.sentence_pieces import NEVER, WITHOUT, SentencePieces
from tokenmill.pipeline.tokens.sentence_pieces_kernel import AHEAD, encode_batch

U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

CACHE_BYTES = 32 << 20


class Characters(NamedTuple):
    """Ids of characters: `of_block[block[c >> 8] << 8 | c & 255]` of code point c, -1 where there is none.

    Attributes:
        block: uint16[0x1100].
        of_block: int32[256 · blocks].
    """

    block: U16
    of_block: I32


def _characters(ids: Mapping[str, int]) -> Characters:
    points = np.full(0x110000, -1, np.int32)
    blocks: dict[bytes, int] = {}
    points[[ord(character) for character in ids]] = list(ids.values())
    points[BLANK] = points[MARK]
    block = [blocks.setdefault(one.tobytes(), len(blocks)) for one in points.reshape(-1, 256)]
    return Characters(np.array(block, np.uint16), np.frombuffer(b"".join(blocks), np.int32))


class SentencePiecesEncoder:
    """Encodes batches with `SentencePieces`; its cache makes it one thread's."""

    def __init__(self, tokenizer: SentencePieces, cache_bytes: int = CACHE_BYTES) -> None:
        """Make the tables; the cache takes at most `cache_bytes`."""
        self._prefix = tokenizer.prefix
        self._tables = (
            *added_pieces(tokenizer.added),
            *joined_pairs(tokenizer.joined),
            *_characters(tokenizer.characters),
            *(tokenizer.byte_ids, *pair_table(tokenizer.merges)),
            *piece_cache(cache_bytes),
        )
        self._room = np.empty(ROOM_PER_BYTE << 12, np.uint64)
        self._ahead = np.empty((2, AHEAD), np.int64)

    def encode(self, texts: pa.LargeStringArray, head: Sequence[int], tail: Sequence[int]) -> tuple[U32, I64]:
        """Ids of all texts, uint32, and how many each has, int64[n]; none of a null.

        Args:
            texts: one a row.
            head: ids before each text.
            tail: ids behind each.
        """
        data, bounds = text_buffers(self._prefixed(texts))
        most = int(bounds[-1] - bounds[0]) + (len(head) + len(tail)) * len(texts)
        out = np.empty(most + SHORT_IDS, np.uint32)
        lengths = np.zeros(len(texts), np.int64)
        state = np.array([0, -1, 0], np.int64)
        present = texts.is_valid().to_numpy(zero_copy_only=False)
        ends = (np.array(head, np.uint32), np.array(tail, np.uint32))
        fixed = (data, bounds, present, *ends, *self._tables)
        while need := encode_batch(*fixed, self._room, self._ahead, state, lengths, out):
            self._room = np.empty(ROOM_PER_BYTE * need, np.uint64)
        return out[: state[2]], lengths

    def _prefixed(self, texts: pa.LargeStringArray) -> pa.LargeStringArray:
        if self._prefix == NEVER:
            return texts
        if self._prefix == WITHOUT:
            marked = pc.or_(pc.starts_with(texts, chr(BLANK)), pc.starts_with(texts, chr(MARK)))
            return pc.if_else(marked, texts, with_blank(texts))
        return with_blank(texts)
