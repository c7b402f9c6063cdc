"""Cutting a batch along its sequence, for context parallel: every rank takes its tokens of the same rows.

Context-, tensor- and pipeline-parallel peers open the mixture with the same dp_rank, so they get the same batch, noise
included; the cut comes after. Of 2·n chunks a causal model's ranks take one from either end ("zigzag"), since the
first half of a row has a quarter of the work:

    cp_size 2      chunks 0 1 2 3
    contiguous     rank 0: 0 1    rank 1: 2 3
    zigzag         rank 0: 0 3    rank 1: 1 2

`cu_seqlens`, `max_seqlen` and `denominator` stay those of the whole rows, as ring attention wants them, and
`position_ids` those in the whole row: what is cut is every array that has an entry a token.
"""

from dataclasses import fields, replace
from typing import Any, Literal, TypeVar

from tokenmill.pipeline.loader.batch import Batch

BatchOrDict = TypeVar("BatchOrDict", Batch, dict[str, Any])


def shard_sequence(
    batch: BatchOrDict, cp_rank: int, cp_size: int, how: Literal["contiguous", "zigzag"] = "zigzag"
) -> BatchOrDict:
    """One rank's tokens of a batch, of a `Batch` or of its dict of tensors.

    Args:
        batch: B rows of L tokens; B·L is where its `cu_seqlens` end.
        cp_rank: among those that share these rows.
        cp_size: how many those are.
        how: "contiguous": chunk r of n; "zigzag": chunks r and 2n - 1 - r of 2n.

    Returns:
        The same with each [B, L] array, of NumPy or torch, as [B, L / cp_size]; a copy.

    Raises:
        ValueError: L does not divide into the chunks, or an array of the batch has other places than its tokens.
    """
    if how not in ("contiguous", "zigzag"):
        raise ValueError(f"how is {how!r}: give 'contiguous' or 'zigzag'")
    if cp_size < 1 or not 0 <= cp_rank < cp_size:
        raise ValueError(f"cp_rank {cp_rank} of cp_size {cp_size}: give a rank from 0 to cp_size - 1")
    chunks = cp_size if how == "contiguous" else 2 * cp_size
    taken = [cp_rank] if how == "contiguous" else [cp_rank, chunks - 1 - cp_rank]
    if not isinstance(batch, Batch):
        return type(batch)(_cut_all(batch, chunks, taken))
    found = _cut_all({field.name: getattr(batch, field.name) for field in fields(batch)}, chunks, taken)
    cut = replace(batch, **found)
    cut.__dict__["document_ids"] = _cut(batch.document_ids, chunks, taken)  # of whole rows: positions say it no more
    return cut


def _cut_all(found: dict[str, Any], chunks: int, taken: list[int]) -> dict[str, Any]:
    rows, length = found["position_ids"].shape
    if length % chunks:
        near = max(1, length // chunks) * chunks
        raise ValueError(
            f"rows of {length} tokens do not divide into {chunks} chunks: pack rows of {near} or {near + chunks} "
            "tokens, or take another cp_size"
        )
    cut = {}
    for name, value in found.items():
        shape = getattr(value, "shape", ())
        if len(shape) > 1 and shape != (rows, length):
            raise ValueError(
                f"{name} is {tuple(shape)}, the batch {rows} rows of {length} tokens: which of its places belong to "
                "which rank is not known; cut it where its objective is computed"
            )
        cut[name] = _cut(value, chunks, taken) if len(shape) > 1 else value
    return cut


def _cut(array: Any, chunks: int, taken: list[int]) -> Any:
    """Some of the chunks of each row, one after another."""
    rows = array.shape[0]
    return array.reshape(rows, chunks, -1)[:, taken].reshape(rows, -1)
