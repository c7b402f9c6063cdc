"""Units: what one pack task takes. Parts of one source and generation that share leading bits of their keys."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tokenmill.manifests.receipts import Output
from tokenmill.pipeline.plan import Part


@dataclass(frozen=True)
class Unit:
    """What one pack task takes.

    Attributes:
        name: such as "web-g0-01".
        source: its source.
        parts: its parts, in order of key.
        tables: outputs of each part, by part key and name.
        ledger: the unit's ledger.
        tokenizer: the run's tokenizer.
        removals: the run's removal list, a path a request; empty when nothing was ever taken down.
        clusters: the unit's clusters; None in a run from before they were written.
        template: the run's chat template; None where documents are no conversations.
    """

    name: str
    source: str
    parts: tuple[Part, ...]
    tables: Mapping[str, Mapping[str, Output]]
    ledger: Output
    tokenizer: Output
    removals: tuple[str, ...] = ()
    clusters: Output | None = None
    template: Output | None = None

    @property
    def bytes(self) -> int:
        """Bytes of all tables of its parts."""
        return sum(output.bytes for outputs in self.tables.values() for output in outputs.values())


def assign_units(parts: Sequence[Part], kept_bytes: Mapping[str, int], unit_bytes: int) -> dict[str, str]:
    """The unit of each part, by part key.

    As many leading bits as make units of about `unit_bytes` of kept text, which pack into shards of 64–256 MiB. A new
    generation makes units of its own, so growth packs nothing old again.

    Args:
        parts: all parts.
        kept_bytes: text kept by *select*, by part key.
        unit_bytes: text a unit should hold.
    """
    groups: dict[tuple[str, int], list[Part]] = defaultdict(list)
    for part in parts:
        groups[part.source, part.generation].append(part)
    units: dict[str, str] = {}
    for (source, generation), members in groups.items():
        total = sum(kept_bytes[part.key] for part in members)
        bits = max(0, (total // unit_bytes).bit_length())
        for part in members:
            prefix = f"{int(part.key, 16):064b}"[:bits]
            units[part.key] = f"{source}-g{generation}" + (f"-{prefix}" if bits else "")
    return units
