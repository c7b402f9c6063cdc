"""The rounds of *deduplicate*, one after another; the driver holds receipts, never rows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tokenmill.manifests.receipts import Output, Receipt
from tokenmill.pipeline.compared import TEXT, hashes_table
from tokenmill.pipeline.dedup_rounds.bands import find_candidates
from tokenmill.pipeline.dedup_rounds.edges import Context, Verified
from tokenmill.pipeline.dedup_rounds.exact import find_copies
from tokenmill.pipeline.dedup_rounds.groups import Group, GroupPart, group_bases, make_groups, with_parts
from tokenmill.pipeline.dedup_rounds.order import rank_documents
from tokenmill.pipeline.dedup_rounds.texts import check_texts
from tokenmill.pipeline.dedup_rounds.verify import Told, verify_candidates
from tokenmill.pipeline.plan import Part
from tokenmill.pipeline.recipe import Dedup, Recipe
from tokenmill.pipeline.survivor import policy_tables


def tables_read(recipe: Recipe) -> tuple[str, ...]:
    """Names of the tables of each part that the rounds read, as far as a part has them."""
    names = {"decisions", "signals/hashes", hashes_table(recipe.dedup.of), *policy_tables(recipe.dedup.survivor)}
    if recipe.dedup.near:
        names.add("signals/minhash")
    if on_text(recipe.dedup):
        edits = {f"edits/{entry.group}" for source in recipe.sources for entry in source.filters}
        names |= {"documents", *edits, *([] if recipe.dedup.of == TEXT else ["turns"])}
    return tuple(sorted(names))


def on_text(dedup: Dedup) -> bool:
    """Whether near duplicates are confirmed on the text."""
    return dedup.near and dedup.verify == "text"


def groups_of_run(
    recipe: Recipe,
    parts: Sequence[Part],
    receipts: Mapping[str, Sequence[Receipt]],
    tables: Mapping[str, Mapping[str, Output]],
    earlier: Sequence[Sequence[GroupPart]] = (),
) -> tuple[Group, ...]:
    """Groups of a run's parts, from each part's receipts and outputs by part key; then those of each earlier run."""
    by_step = {key: {receipt.step: receipt.balance for receipt in found} for key, found in receipts.items()}
    rows = {key: found["ingest"].taken.documents for key, found in by_step.items()}
    kept = {key: found["select"].out.documents for key, found in by_step.items()}
    if earlier:
        parts = [replace(part, generation=part.generation + len(earlier)) for part in parts]
    groups = make_groups(parts, tables, rows, kept, tables_read(recipe))
    for found in earlier:
        groups = with_parts(groups, found)
    return groups


def find_edges(context: Context) -> Verified:
    """Run the first half of the rounds: ranks, exact copies and verified pairs of near duplicates."""
    dedup, bases = context.recipe.dedup, group_bases(context.groups)
    ranks = rank_documents(context, bases)
    copies, firsts = find_copies(context, ranks, bases) if dedup.exact else ((), ())
    if not dedup.near:
        return Verified((), copies, firsts, ranks)
    met = find_candidates(context, ranks, copies, bases)
    edges = verify_candidates(context, Told(ranks, firsts), met)
    if on_text(dedup):
        edges = check_texts(context, edges)
    joined = tuple(output for outputs in edges for output in outputs)
    return Verified(joined, copies, firsts, ranks, met.cut, met.heaviest)
