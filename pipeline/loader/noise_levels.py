"""Where the noise level t of a row, segment or block comes from: uint32 draws T, t = T / 2^32.

    independent   T is the row's own draw
    batch         of each aligned group of N global rows one is in each of N strata: T' = (s · 2^32 + T) // N,
                  s from a permutation keyed (seed, group), so that no step has only easy or only hard rows; held-out
                  rows of several lengths have groups of their own in each
    visit         of E visits of a row one is in each of E strata: s = π(e mod E) in its epoch e, π keyed (seed, unit,
                  row in it), for data that is seen often, such as SFT of 12 epochs

Masks are keyed by the global row in every case. A row's segments have a draw, and a permutation, each.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tokenmill.manifests.keyed import key64, mix64
from tokenmill.pipeline.loader import noise
from tokenmill.pipeline.loader.batch import Gathered

I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class NoiseLevels:
    """How noise levels are drawn.

    Attributes:
        source: see the module's text.
        strata: N or E; 1 with "independent".
    """

    source: Literal["independent", "batch", "visit"] = "independent"
    strata: int = 1

    def __post_init__(self) -> None:
        if self.source not in ("independent", "batch", "visit"):
            raise ValueError(f"noise levels are {self.source!r}: give 'independent', 'batch' or 'visit'")
        if not (self.strata == 1 if self.source == "independent" else 1 <= self.strata <= 1 << 16):
            raise ValueError(
                f"{self.source!r} noise levels have {self.strata} strata: give 1 with 'independent', else 1 … 65536: "
                "rows of a group ('batch'), or epochs ('visit')"
            )

    def draws(self, gathered: Gathered, seed: int, count: int) -> U32:
        """T of each row's first `count` segments: uint32 [B, count].

        Raises:
            ValueError: the global batch does not consist of whole groups.
        """
        drawn = noise.draw(seed, noise.PURPOSE_NOISE_LEVEL, gathered.rows, count)
        if self.source == "independent":
            return drawn
        strata = np.stack([self._strata(gathered, seed, segment) for segment in range(count)], axis=1)
        return in_strata(drawn, strata, self.strata)

    def _strata(self, gathered: Gathered, seed: int, segment: int) -> I64:
        """The stratum of each row's segment of that number: int64 [B]."""
        key = key64("noise strata", self.source, seed, segment)
        if self.source == "visit":
            group, members = gathered.identities(), gathered.epoch.astype(np.int64) % self.strata
        else:
            first, behind = gathered.batch_rows
            if (first - gathered.origin) % self.strata or (behind - first) % self.strata:
                raise ValueError(
                    f"global rows {first} … {behind - 1} are a batch of {behind - first}, which does not consist of "
                    f"whole groups of {self.strata}: 'batch' noise levels need a batch_size that {self.strata} divides"
                )
            number, members = np.divmod(gathered.rows - gathered.origin, self.strata)
            group = (number + gathered.origin).astype(np.uint64)  # no length has a number of another's
        permuted = keyed_permutations(mix64(group, key), self.strata)
        return permuted[np.arange(members.size), members]


INDEPENDENT = NoiseLevels()


def keyed_permutations(keys: U64, length: int) -> I64:
    """For each key a permutation of 0 … length-1, int64 [keys, length]: the order of the hashes."""
    return np.argsort(mix64(np.arange(length, dtype=np.uint64), keys[:, None]), axis=1, kind="stable")


def in_strata(draws: U32, strata: I64, count: int) -> U32:
    """Draws moved into stratum s of `count` equal ones: (s · 2^32 + T) // count, uint32."""
    moved = (strata.astype(np.uint64) << np.uint64(32)) + draws.astype(np.uint64)
    return (moved // np.uint64(count)).astype(np.uint32)
