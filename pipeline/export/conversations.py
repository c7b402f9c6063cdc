"""Conversations of packed rows, each by itself: its tokens, and which of them are answers."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tokenmill.pipeline.export.megatron import UnitShards, moved_pieces, places_of_pieces
from tokenmill.pipeline.export.rows import I32, I64, Mask, Rows, Tokens, read_batches, real_tokens
from tokenmill.pipeline.loader.stored_rows import StoredRows


@dataclass(frozen=True)
class Conversations:
    """The conversations of a unit's shards, n of them, in stored order.

    Attributes:
        tokens: uint16 or uint32 [offsets[n]], one conversation after another.
        answers: bool [offsets[n]], tokens that the model is to give.
        offsets: int64 [n + 1], first token of each conversation.
        parts: int32 [n], which of the unit's parts each is of.
        rows: int32 [n], its row there.
    """

    tokens: Tokens
    answers: Mask
    offsets: I64
    parts: I32
    rows: I32

    def slices(self, size: int) -> Iterator["Conversations"]:
        """The same, `size` at a time."""
        for first in range(0, len(self.rows), size):
            end = min(first + size, len(self.rows))
            of_tokens, of_each = slice(self.offsets[first], self.offsets[end]), slice(first, end)
            offsets = self.offsets[first : end + 1] - self.offsets[first]
            tokens, answers = self.tokens[of_tokens], self.answers[of_tokens]
            yield Conversations(tokens, answers, offsets, self.parts[of_each], self.rows[of_each])

    def prompt_lengths(self) -> I64:
        """int64 [n], tokens before the first answer: all of a conversation without one."""
        places = np.append(np.flatnonzero(self.answers), len(self.answers))
        first = places[np.searchsorted(places, self.offsets[:-1])]
        found: I64 = np.minimum(first, self.offsets[1:]) - self.offsets[:-1]
        return found

    def last_answers(self) -> tuple[I64, I64]:
        """Where the last answer of each begins and ends in it, int64 [n] twice; both 0 where there is none."""
        begins, ends = self._borders()
        last = np.searchsorted(begins, self.offsets[1:]) - 1
        has = (last >= 0) & (begins[last] >= self.offsets[:-1]) if len(begins) else np.zeros(len(last), np.bool_)
        chosen = last[has]
        found = np.zeros((2, len(last)), np.int64)
        found[:, has] = np.stack([begins[chosen], ends[chosen]]) - self.offsets[:-1][has]
        return found[0], found[1]

    def _borders(self) -> tuple[I64, I64]:
        """First token of each answer and the one behind its last: no answer goes on in the next conversation."""
        inside = np.concatenate([[False], self.answers, [False]])
        begins, ends = inside[1:] & ~inside[:-1], inside[:-1] & ~inside[1:]
        begins[self.offsets] |= inside[1:][self.offsets]
        ends[self.offsets] |= inside[:-1][self.offsets]
        return np.flatnonzero(begins), np.flatnonzero(ends)


def read_conversations(rows: Rows, unit: UnitShards) -> Conversations:
    """The conversations of a unit's shards, in the order of their first pieces; held in memory twice while joined.

    Raises:
        CorruptShardError: a record batch is not what the shard table says.
        ValueError: a conversation's pieces are not all there.
    """
    tokens, answers = np.empty(unit.tokens, rows.dtype), np.empty(unit.tokens, np.bool_)
    pieces: dict[str, list[I32]] = {name: [] for name in ("lengths", "parts", "rows", "starts")}
    done = 0
    for stored in read_batches(rows.of(unit.component), np.arange(unit.first, unit.end)):
        real = stored.tokens[real_tokens(stored, np.arange(len(stored.tokens)))]
        tokens[done : done + len(real)], answers[done : done + len(real)] = real, _answers(stored)
        done += len(real)
        for name, values in pieces.items():
            values.append(stored.table.column(f"document_{name}").flatten().to_numpy())
    lengths, parts, numbers, starts = (np.concatenate(values) for values in pieces.values())
    target, whole = places_of_pieces(lengths, parts, numbers, starts, done, unit=unit.prefix)
    begun = starts == 0
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(whole, dtype=np.int64)])
    joined = moved_pieces(tokens, lengths, target)
    return Conversations(joined, moved_pieces(answers, lengths, target), offsets, parts[begun], numbers[begun])


def _answers(stored: StoredRows) -> Mask:
    """Which tokens of the rows, padding aside, are answers."""
    offsets, sizes = stored.answer_runs
    of_row = np.arange(len(sizes)) - np.repeat(offsets[:-1], np.diff(offsets))
    found: npt.NDArray[np.bool_] = np.repeat(of_row % 2 == 1, sizes)
    return found
