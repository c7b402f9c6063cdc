"""The form of the benchmarks: that each is found, and what is made of what they print. None is run here."""

import importlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.bench import __main__ as bench

NAMES = bench.bench_names()


def figure(**changes: Any) -> dict[str, Any]:
    return {"name": "rate", "value": 45.25, "unit": "MB/s"} | changes


def line(*figures: Any, name: str = "mill") -> str:
    return json.dumps({"bench": name, "figures": list(figures)})


def test_every_module_of_the_folder_is_found() -> None:
    modules = {file.name for file in (Path(__file__).parent / "bench").iterdir() if file.suffix == ".py"}
    assert {f"{name}.py" for name in NAMES} == modules - {"__init__.py", "__main__.py"}
    assert {"filters", "language", "reselect", "task_memory"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_says_how_it_is_run_and_takes_quick(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"tests.bench.{name}")
    assert f"`python -m tests.bench.{name} [--quick]`" in (module.__doc__ or "")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 0
    assert "--quick" in capsys.readouterr().out


def test_figures_and_their_bars() -> None:
    found = bench.parse_figures(
        "mill",
        line(
            figure(),
            figure(name="a", bar=45.25),
            figure(name="b", bar=45.3),
            figure(name="c", bar=45.25, direction="at_most"),
            figure(name="d", bar=45, direction="at_most"),
            figure(name="e", bar=0, direction="at_least"),
        ),
    )
    assert found[0] == bench.Figure("rate", 45.25, "MB/s")
    assert [one.met for one in found] == [None, True, False, True, False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the last line of mill is no JSON"),
        ("3 pages", "the last line of mill is no JSON"),
        ("[]", 'is not {"bench": "mill", "figures": …}'.replace("…", "[…]")),
        (line(figure(), name="other"), "the last line of mill is not"),
        (json.dumps({"bench": "mill", "figures": [figure()], "more": 1}), "the last line of mill is not"),
        (line(), "mill has no list of figures"),
        (line(figure(), figure()), "two figures of mill have the same name"),
        (line({"name": "rate", "value": 1}), "has other keys than"),
        (line(figure(direction="at_most", better="low")), "has other keys than"),
        (line("fast"), "has other keys than"),
        (line(figure(value="45")), "is no finite number"),
        (line(figure(value=True)), "is no finite number"),
        (line(figure(value=float("nan"))), "is no finite number"),
        (line(figure(bar=float("inf"))), "is no finite number"),
        (line(figure(unit="")), "is no text"),
        (line(figure(bar=1, direction="below")), "none of at_least, at_most"),
    ],
)
def test_another_form_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("[", r"\[").replace("{", r"\{")):
        bench.parse_figures("mill", text)
    failed = bench.parsed("mill", f"a table\n{text}\n", 0, 1.0)
    assert message in str(failed.failure)
    assert failed.table.startswith("a table")


def test_a_benchmark_that_ends_badly_has_no_figures() -> None:
    found = bench.parsed("mill", f"half a table\n{line(figure())}\n", 3, 1.0)
    assert (found.figures, found.failure) == ((), "exit status 3")
    assert bench.figure_table(found) == "**Failed:** exit status 3"


def test_the_page() -> None:
    good = bench.parsed(
        "mill", "\n  10 pages\n  2 s\n" + line(figure(bar=30), figure(name="a|b", value=12345.6, bar=20000)), 0, 61.4
    )
    page = bench.render(
        [good, bench.parsed("wheel", "", 1, 2.0)],
        {"processor": "a processor"},
        {"numba": "0.1"},
        datetime(2026, 1, 2, tzinfo=UTC),
    )
    assert page == PAGE
    assert list(bench.sections_of(page)) == ["mill", "wheel"]
    wheel = bench.parsed("wheel", "  1 wheel\n" + line(figure(bar=30), name="wheel"), 0, 3.0)
    later = bench.render([wheel], {}, {}, datetime(2026, 3, 4, tzinfo=UTC), bench.sections_of(page))
    assert "on 2026-03-04: 2 of 3 bars met.\n" in later
    assert "`python -m tests.bench.mill`, 61 s, 2026-01-02\n" in later
    assert "`python -m tests.bench.wheel`, 3 s, 2026-03-04\n" in later
    assert bench.sections_of(later)["mill"] == bench.sections_of(page)["mill"]
    empty = bench.render([good], {}, {}, datetime(2026, 1, 2, tzinfo=UTC))
    assert "on 2026-01-02: 1 of 2 bars met.\n" in empty


PAGE = """\
# Benchmarks

Written by `make bench` on 2026-01-02: 1 of 2 bars met; failed: wheel.

| machine |  |
| --- | --- |
| processor | a processor |

| package | version |
| --- | --- |
| numba | 0.1 |

## mill

`python -m tests.bench.mill`, 61 s, 2026-01-02

```
  10 pages
  2 s
```

| figure | value | unit | bar | met |
| --- | --- | --- | --- | --- |
| rate | 45.2 | MB/s | ≥ 30 | yes |
| a\\|b | 12,346 | MB/s | ≥ 20,000 | **no** |

## wheel

`python -m tests.bench.wheel`, 2 s, 2026-01-02

```

```

**Failed:** exit status 1
"""


def test_machine_and_versions_name_no_host() -> None:
    found = {**bench.machine(), **bench.versions()}
    assert {"processor", "memory", "system", "Python", "numba", "datatrove", "spacy"} <= found.keys()
    assert [value for value in found.values() if not value or "/" in value.split(", ")[0][:1]] == []


def test_all_are_run_and_a_failure_is_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`main` over outcomes as from benchmarks."""
    outcomes = {
        "good": bench.parsed("good", f"table\n{line(figure(bar=99), name='good')}", 0, 1.0),
        "bad": bench.parsed("bad", "oh", 1, 1.0),
    }
    asked = []

    def run(name: str, quick: bool) -> bench.Outcome:
        asked.append((name, quick))
        return outcomes[name]

    monkeypatch.setattr(bench, "run_bench", run)
    monkeypatch.setattr(bench, "HERE", tmp_path)
    monkeypatch.setattr(bench, "REPOSITORY", tmp_path.parent)
    monkeypatch.setattr(bench, "machine", dict)
    monkeypatch.setattr(bench, "versions", dict)
    monkeypatch.setattr(bench, "bench_names", lambda: ["good"])
    monkeypatch.setattr(sys, "argv", ["bench", "--quick"])
    bench.main()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(bench, "bench_names", lambda: ["bad", "good"])
    monkeypatch.setattr(sys, "argv", ["bench"])
    with pytest.raises(SystemExit, match="failed: bad"):
        bench.main()
    assert asked == [("good", True), ("bad", False), ("good", False)]
    assert "0 of 1 bars met; failed: bad." in (tmp_path / "RESULTS.md").read_text()
    assert "| rate | 45.2 | MB/s | ≥ 99 | **no** |" in capsys.readouterr().out


def test_a_benchmark_is_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tests" / "bench"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    (folder / "__init__.py").write_text("")
    said = line(figure(name="quick"), name="tiny")
    (folder / "tiny.py").write_text(f"import sys\nassert sys.argv[1:] == ['--quick']\nprint('table')\nprint({said!r})")
    monkeypatch.setattr(bench, "REPOSITORY", tmp_path)
    found = bench.run_bench("tiny", quick=True)
    assert (found.table, found.failure, [one.name for one in found.figures]) == ("table", None, ["quick"])
    assert bench.run_bench("tiny", quick=False).failure == "exit status 1"
