"""A run's books as tables for people, and its state."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tokenmill.manifests.audit import STEPS
from tokenmill.manifests.balance import Balance, Tally
from tokenmill.pipeline.book import receipts_by_step
from tokenmill.pipeline.erase import tombstones
from tokenmill.pipeline.round_progress import PLANNED, round_told
from tokenmill.pipeline.steps.publish import Published, latest, versions
from tokenmill.pipeline.storage import Storage


def published_or_error(storage: Storage) -> Published:
    """The newest version of a run. Raises ValueError saying what to do where there is none."""
    published = latest(storage)
    if published is None:
        raise ValueError(
            f"{storage.root!r} holds no published run: {_how_far(storage)}; `tokenmill run RECIPE` goes on with it"
        )
    return published


def _how_far(storage: Storage) -> str:
    """What a folder without a published version lacks."""
    if any(path.startswith("manifests/tasks.") for path in storage.sizes("manifests")):
        return "its tables are there, manifests/run-NNNNN.<hash>.json is missing: put it back"
    found = status_of(storage)
    if not found["steps"]:
        return "there is not one receipt in it"
    planned = {**dict.fromkeys(found["steps"], 0), **found["planned"]}
    told = [
        f"{step} {found['steps'].get(step, 0):,} done" + (f" of {tasks:,}" if tasks else "")
        for step, tasks in planned.items()
    ]
    return f"it is still going, or was stopped ({', '.join(told)})"


#: So often a run's receipts are read anew when some went while they were read.
_LOOKS = 5


def status_of(storage: Storage) -> dict[str, Any]:
    """Receipts by step, what was planned, and the published versions."""
    done = _receipts_of_a_run_at_work(storage)
    order = ["ingest", "annotate", "thresholds", "select", "deduplicate", "tokenizer", "takedown", "copies", "pack"]
    planned = json.loads(storage.read(PLANNED)) if PLANNED in storage.sizes("logs") else {}
    return {
        "steps": {step: done[step] for step in order if done[step]},
        "planned": {step: tasks for step, tasks in planned.items() if step != "round"},
        "round": round_told(planned, done),
        "versions": versions(storage),
        "erased": tombstones(storage),
    }


def _receipts_of_a_run_at_work(storage: Storage) -> Counter[str]:
    """A run puts the receipts of a step into one table and deletes an older one; it may do so just when it is read."""
    for _ in range(_LOOKS - 1):
        try:
            return receipts_by_step(storage)
        except FileNotFoundError:
            continue
    return receipts_by_step(storage)


def people_console() -> Console:
    """Standard output; as wide as a sheet needs where that is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=120)


def print_sheet(published: Published, console: Console) -> None:
    """Print the balance sheet, a table a source."""
    for source, sheet in published.value["balance"].items():
        console.print(_table(source, sheet))
        console.print(_packed_line(sheet), highlight=False)


def _table(source: str, sheet: Mapping[str, Any]) -> Table:
    table = Table(title=f"source {source}", title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("step")
    table.add_column("")
    table.add_column("reason", overflow="fold")
    table.add_column("documents", justify="right")
    table.add_column("size", justify="right")
    for step, measure in STEPS.items():
        balance = Balance.from_json(sheet["steps"][step])
        table.add_row(step, "in", "", f"{balance.taken.documents:,}", _size(balance.taken, measure), style="dim")
        for title, reasons in (("dropped", balance.dropped), ("failed", balance.failed)):
            for reason, tally in sorted(reasons.items(), key=lambda item: (-item[1].documents, item[0])):
                table.add_row("", title, reason, f"{tally.documents:,}", _size(tally, measure))
        table.add_row("", "out", "", f"{balance.out.documents:,}", _size(balance.out, measure), end_section=True)
    return table


def _size(tally: Tally, measure: str) -> str:
    return f"{tally.tokens:,} tokens" if measure == "tokens" else f"{tally.bytes:,} {measure}"


#: Whose the tokens of conversations are.
ROLES = ("system", "user", "assistant", "tool", "template")


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(1, whole):.2f} %"


def _packed_line(sheet: Mapping[str, Any]) -> str:
    tokens = sum(sheet["tokens"].values())
    cells = tokens + sheet["padding_tokens"]
    parts = [
        f"{sheet['rows']:,} rows in {sheet['shards']} shards, {sheet['shard_bytes']:,} bytes",
        f"{sheet['padding_tokens']:,} tokens of padding, {100 * sheet['padding_tokens'] / cells:.2f} %"
        + (f" ({sheet['align_tokens']:,} to align)" if sheet.get("align_tokens") else "")
        if cells
        else "nothing packed",
        f"{sheet['cut_documents']:,} documents cut, of {sheet.get('cut_tokens', 0):,} tokens",
    ]
    if sheet.get("round_trip_documents"):
        parts.append(
            f"{sheet['round_trip_documents']:,} documents decoded, {sheet['round_trip_differing']:,} to another text"
        )
    if roles := sheet.get("roles"):
        by_role = ", ".join(f"{name} {roles[f'{name}_tokens']:,}" for name in ROLES)
        answers, ends = roles["answer_tokens"], roles["answer_eos_tokens"]
        parts.append(
            f"tokens by role: {by_role}; {answers:,} are answers ({_share(answers, tokens)}), {ends:,} of them EOS "
            f"({_share(ends, answers)})"
        )
    if sheet.get("encoded_by"):
        parts.append(f"encoded by {sheet['encoded_by']}")
    if sheet.get("spelled_controls"):
        parts.append(f"control tokens spelled {sheet['spelled_controls']:,} times in texts, encoded as text")
    if tokens:
        parts.append(f"{sheet['text_bytes'] / tokens:.2f} bytes of text a token")
    if sheet["other_records"]:
        others = ", ".join(f"{count:,} {kind}" for kind, count in sheet["other_records"].items())
        parts.append(f"records that are no documents: {others}")
    return "; ".join(parts)
