"""States of several ranks as one."""

from collections.abc import Sequence
from typing import Any


def merge_states(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The state of all ranks after the same batch: what any of them skipped, all skip from here on.

    Ranks may find different record batches corrupt, since each reads those of its own rows. Without a skipped batch
    the states are equal, and any of them will do.

    Args:
        states: one of each rank.

    Raises:
        ValueError: they differ in more than what was skipped; says where.
    """
    if not states:
        raise ValueError("no states: give one of each rank")
    for rank, state in enumerate(states):
        for field in sorted(states[0].keys() | state.keys()):
            if field != "skipped_batches" and state.get(field) != states[0].get(field):
                raise ValueError(
                    f"state {rank} has {field} {state.get(field)!r}, state 0 {states[0].get(field)!r}: give the states "
                    "of one loader's ranks after the same batch"
                )
    skipped = sorted({tuple(batch) for state in states for batch in state["skipped_batches"]})
    return {**states[0], "skipped_batches": [list(batch) for batch in skipped]}
