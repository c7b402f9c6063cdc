"""The benchmarks of this folder, one after another: `python -m tests.bench [NAME ...] [--quick]`, all by default.

A benchmark is a module `tests.bench.<name>` that takes `--quick`, prints a table for people and, as its last line, a
JSON object {"bench": name, "figures": [{"name", "value", "unit", "bar", "direction"}]}. `bar`, where there is one, is
what was asked for; a value has to reach it, or stay below it where `direction` is "at_most". A full run writes
RESULTS.md beside this file, or, of some, their sections of it; --quick writes nothing. A missed bar is shown; a
benchmark that fails, or whose last line has another form, is shown too and makes the exit status 1. What several
benchmarks need is in shared/.
"""

import json
import math
import os
import platform
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.bench.shared.figures import AT_MOST, DIRECTIONS, Figure, arguments

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
_MET = re.compile(r"^\|.*\| (yes|\*\*no\*\*) \|$", re.MULTILINE)
_NEEDED = {"name", "value", "unit"}
_KEYS = {"name", "value", "unit", "bar", "direction"}


@dataclass(frozen=True)
class Outcome:
    """What a benchmark printed for people, its figures, and what went wrong, if anything did."""

    name: str
    table: str
    figures: tuple[Figure, ...]
    seconds: float
    failure: str | None = None


def main() -> None:
    """Run them, show each as it ends, write RESULTS.md."""
    parser = arguments(__doc__, "each one's short form; writes nothing")
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *bench_names()], help="of some benchmarks")
    asked = parser.parse_args()
    quick, outcomes = asked.quick, []
    for name in asked.names or bench_names():
        print(f"== {name}", flush=True)
        outcome = run_bench(name, quick)
        outcomes.append(outcome)
        print(f"{outcome.table}\n\n{figure_table(outcome)}\n\n{outcome.seconds:.0f} s\n", flush=True)
    if not quick:
        results = HERE / "RESULTS.md"
        others = sections_of(results.read_text(encoding="utf-8")) if asked.names else {}
        results.write_text(render(outcomes, machine(), versions(), datetime.now(UTC), others), encoding="utf-8")
        print(f"wrote {(HERE / 'RESULTS.md').relative_to(REPOSITORY)}")
    failed = [outcome.name for outcome in outcomes if outcome.failure]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def bench_names() -> list[str]:
    """Modules of this folder, those with a leading underscore left out."""
    return sorted(file.stem for file in HERE.glob("*.py") if not file.stem.startswith("_"))


def run_bench(name: str, quick: bool) -> Outcome:
    """One benchmark in a process of its own, whose standard error goes where ours does."""
    command = [sys.executable, "-m", f"tests.bench.{name}", *(["--quick"] if quick else [])]
    started = time.monotonic()
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    return parsed(name, done.stdout, done.returncode, time.monotonic() - started)


def parsed(name: str, output: str, status: int, seconds: float) -> Outcome:
    """The outcome in what a benchmark printed and its exit status."""
    lines = output.rstrip().split("\n")
    if status:
        return Outcome(name, "\n".join(lines), (), seconds, f"exit status {status}")
    try:
        figures = parse_figures(name, lines[-1])
    except ValueError as error:
        return Outcome(name, "\n".join(lines), (), seconds, str(error))
    return Outcome(name, "\n".join(lines[:-1]).strip("\n"), figures, seconds)


def parse_figures(name: str, line: str) -> tuple[Figure, ...]:
    """The figures in the last line of benchmark `name`. Raises ValueError, saying where, for any other form."""
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"the last line of {name} is no JSON ({error}): {line[:200]!r}") from error
    if not isinstance(found, dict) or found.keys() != {"bench", "figures"} or found["bench"] != name:
        raise ValueError(f'the last line of {name} is not {{"bench": "{name}", "figures": […]}}: {line[:200]!r}')
    if not isinstance(found["figures"], list) or not found["figures"]:
        raise ValueError(f"{name} has no list of figures: {line[:200]!r}")
    figures = tuple(_figure(name, entry) for entry in found["figures"])
    names = [figure.name for figure in figures]
    if len(set(names)) < len(names):
        raise ValueError(f"two figures of {name} have the same name: {names}")
    return figures


def _figure(bench: str, entry: Any) -> Figure:
    if not isinstance(entry, dict) or not _NEEDED <= entry.keys() <= _KEYS:
        raise ValueError(f"a figure of {bench} has other keys than name, value, unit, bar and direction: {entry!r}")
    figure = Figure(**entry)
    numbers: list[Any] = [figure.value] if figure.bar is None else [figure.value, figure.bar]
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        raise ValueError(f"value or bar of a figure of {bench} is no finite number: {entry!r}")
    texts: list[Any] = [figure.name, figure.unit]
    if not all(isinstance(text, str) and text for text in texts):
        raise ValueError(f"name or unit of a figure of {bench} is no text: {entry!r}")
    if figure.direction not in DIRECTIONS:
        raise ValueError(f"direction of a figure of {bench} is none of {', '.join(DIRECTIONS)}: {entry!r}")
    return figure


def render(
    outcomes: Sequence[Outcome],
    machine: dict[str, str],
    versions: dict[str, str],
    date: datetime,
    others: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The page RESULTS.md: `others` are sections by name that stay where nothing newer is there."""
    sections = dict(sorted({**others, **{outcome.name: _section(outcome, date) for outcome in outcomes}}.items()))
    met = [verdict == "yes" for text in sections.values() for verdict in _MET.findall(text)]
    failed = [name for name, text in sections.items() if "**Failed:**" in text]
    head = [
        "# Benchmarks",
        f"Written by `make bench` on {date:%Y-%m-%d}: {sum(met)} of {len(met)} bars met"
        + (f"; failed: {', '.join(failed)}." if failed else "."),
        _table(("machine", ""), list(machine.items())),
        _table(("package", "version"), list(versions.items())),
    ]
    return "\n\n".join([*head, *sections.values()]) + "\n"


def _section(outcome: Outcome, date: datetime) -> str:
    return (
        f"## {outcome.name}\n\n`python -m tests.bench.{outcome.name}`, {outcome.seconds:,.0f} s, {date:%Y-%m-%d}"
        f"\n\n```\n{outcome.table}\n```\n\n{figure_table(outcome)}"
    )


def sections_of(page: str) -> dict[str, str]:
    """A page's sections by name."""
    return {text.split("\n", 1)[0]: f"## {text.rstrip()}" for text in page.split("\n## ")[1:]}


def figure_table(outcome: Outcome) -> str:
    """A benchmark's figures beside their bars, or why there are none."""
    if outcome.failure:
        return f"**Failed:** {outcome.failure}"
    rows = []
    for figure in outcome.figures:
        bar = "" if figure.bar is None else f"{'≤' if figure.direction == AT_MOST else '≥'} {_number(figure.bar)}"
        met = {None: "", True: "yes", False: "**no**"}[figure.met]
        rows.append((figure.name, _number(figure.value), figure.unit, bar, met))
    return _table(("figure", "value", "unit", "bar", "met"), rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _number(value: float) -> str:
    """Whole numbers as they are, others to four significant digits or more."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"


def machine() -> dict[str, str]:
    """What it ran on; no host's name."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)):
        cpu = found[1]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": f"{cpu}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Installed versions of what tokenmill needs and of the peers in its `bench` extra."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["bench"]]
    found = {}
    for name in sorted({re.split(r"[\[<>=!~; ]", requirement)[0] for requirement in asked}):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


if __name__ == "__main__":
    main()
