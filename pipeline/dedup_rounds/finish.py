"""The second half of *deduplicate*: from verified edges and exact copies to the ledger of every unit."""

from typing import Any

from tokenmill.manifests.receipts import Output, Receipt
from tokenmill.pipeline.dedup_rounds.components import find_components
from tokenmill.pipeline.dedup_rounds.edges import Context, Verified
from tokenmill.pipeline.dedup_rounds.fates import share_fates
from tokenmill.pipeline.dedup_rounds.ledger import books, write_ledgers
from tokenmill.pipeline.dedup_rounds.summary import summarise
from tokenmill.pipeline.dedup_rounds.walk import walk_components


def finish(context: Context, verified: Verified) -> list[Receipt]:
    """Run rounds 5 to 7.

    Returns:
        The receipts to publish: *deduplicate* of every unit, sorted by unit, with outputs `ledger/<unit>` and
        `clusters/<unit>` and the unit's books; then `dedup_summary`, without outputs, whose notes say what was found.
    """
    outcomes: tuple[Output, ...] = ()
    notes: dict[str, Any] = {
        "cut_pairs": verified.cut_pairs,
        "heaviest_buckets": [list(bucket) for bucket in verified.heaviest],
        "verified_pairs": 0,
        "rounds": 0,
    }
    parts = [part for group in context.groups for part in group.parts]
    against = dict.fromkeys((part.elsewhere.run, part.elsewhere.version) for part in parts if part.elsewhere)
    if against:
        notes["against"] = [list(version) for version in against]
    if verified.edges:
        components = find_components(context, verified.edges)
        walked = walk_components(context, components)
        outcomes = walked.outcomes
        notes |= {"verified_pairs": components.verified_pairs, "rounds": components.rounds}
        notes["largest_component"] = dict(walked.largest)
    rows = share_fates(context, verified, outcomes)
    ledgers = write_ledgers(context, [receipt.outputs[0] for receipt in rows])
    notes["sources"] = {source: balance.to_json() for source, balance in books(ledgers).items()}
    return [*ledgers, summarise(context, notes, ledgers)]
