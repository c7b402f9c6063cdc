"""What people see of a run: one line a step, rounds among them, and where a killed one was."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.pipeline.runs import run_inline, tokenmill
from tests.pipeline.test_dedup_whole import RECIPE, few_at_a_time, write_notes
from tokenmill.pipeline import dedup_rounds, progress
from tokenmill.pipeline.executors import InlineExecutor
from tokenmill.pipeline.prepare import prepare
from tokenmill.pipeline.progress import Bars, Lines, Now, Quiet
from tokenmill.pipeline.recipe.file import load_recipe
from tokenmill.pipeline.round_progress import ROUNDS
from tokenmill.pipeline.run import Run
from tokenmill.pipeline.sheet import status_of
from tokenmill.pipeline.storage import Storage


class Told(Quiet):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int, Now]] = []

    def step(self, name: str, done: int, total: int, now: Now = progress.NOTHING_MORE) -> None:
        self.steps.append((name, done, total, now))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_notes(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("{folder}", str(tmp_path)).replace("{settings}", "{verify: text}"))
    return path


def run_told(recipe: Path, output: Path, executor: InlineExecutor) -> list[tuple[str, int, int, Now]]:
    recipe_file, storage, told = load_recipe(recipe.read_text(), str(recipe)), Storage(str(output)), Told()
    with few_at_a_time():
        Run(recipe_file, storage, executor, told).go(prepare(recipe_file, storage))
    return told.steps


def test_the_rounds_are_one_line_which_counts_the_tasks_of_all(recipe: Path, tmp_path: Path) -> None:
    steps = run_told(recipe, tmp_path / "out", InlineExecutor())
    assert list(dict.fromkeys(name for name, *_ in steps)) == [
        *("ingest", "annotate", "select", "deduplicate", "tokenizer", "pack", "publish")
    ]
    rounds = [step[1:] for step in steps if step[0] == "deduplicate"]
    assert [done for done, _, _ in rounds] == sorted(done for done, _, _ in rounds)
    assert [total for _, total, _ in rounds] == sorted(total for _, total, _ in rounds)
    log = next((tmp_path / "out" / "logs").glob("tasks-*")).read_text().splitlines()
    tasks = [json.loads(line)["task"] for line in log]
    ran = sum(task.startswith(("dedup_", "deduplicate")) for task in tasks)
    assert rounds[-1] == (ran, ran, Now())
    verify = [now.round for _, _, now in rounds if now.round.startswith("verify,")]
    count = sum(task.startswith("dedup_verify") for task in tasks)
    assert count > 2
    assert list(dict.fromkeys(verify)) == [f"verify, {done} of {count}" for done in range(count + 1)]
    assert {now.running for _, _, now in rounds} == {0, 1}
    assert status_of(Storage(str(tmp_path / "out")))["round"] is None


def test_every_round_has_a_name_in_plain_words() -> None:
    folder = Path(next(iter(dedup_rounds.__path__)))
    named = {step for path in folder.glob("*.py") for step in re.findall(r'"(dedup_\w+)"', path.read_text())}
    assert len(named) > 15
    assert {step for step in ROUNDS if step.startswith("dedup_")} == named


class Killed(InlineExecutor):
    """Dies before a task; `fails` raises in one instead."""

    def __init__(self, step: str, after: int, fails: bool = False) -> None:
        self.step, self.after, self.fails = step, after, fails

    def map(self, function: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        def work(shared: Any, item: Any) -> Any:
            if getattr(item, "function", None) is not None and item.function.__name__ == self.step:
                self.after -= 1
                if self.after < 0 and not self.fails:
                    raise KeyboardInterrupt
                if self.after < 0:
                    raise ValueError("as asked")
            return function(shared, item)

        return super().map(work, shared, items)


def test_a_run_killed_in_a_round_tells_where_it_is(recipe: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_told(recipe, output, Killed("run_verify", 1))
    told = status_of(Storage(str(output)))["round"]
    tasks = told["tasks"]
    assert tasks > 2
    assert (told["of"], told["round"], told["done"]) == ("deduplicate", "verify", 1)
    line = f"deduplicate  {told['tasks_before']:>8,} done in {told['rounds_before']} rounds, then verify: 1 of {tasks}"
    assert line in tokenmill("status", str(output)).splitlines()
    with pytest.raises(KeyboardInterrupt):  # killed again, it counts on
        run_told(recipe, output, Killed("run_verify", 1))
    assert status_of(Storage(str(output)))["round"] == {**told, "done": 2}
    with few_at_a_time():
        run_inline(recipe, output)
    assert status_of(Storage(str(output)))["round"] is None
    assert "verify" not in tokenmill("status", str(output))


def test_failed_tasks_are_counted(recipe: Path, tmp_path: Path) -> None:
    told = Told()
    recipe_file, storage = load_recipe(recipe.read_text(), str(recipe)), Storage(str(tmp_path / "out"))
    with few_at_a_time(), pytest.raises(RuntimeError, match="as asked"):
        Run(recipe_file, storage, Killed("run_carry", 1, fails=True), told).go(prepare(recipe_file, storage))
    _, done, total, now = told.steps[-1]
    carried = total - done + 1
    assert (now.running, now.failed) == (0, carried - 1)
    assert now.round == f"gather signatures, 1 of {carried}"


def test_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    lines = Lines()
    for second in range(12):
        clock[0] = 100.0 + second
        lines.step("deduplicate", second, 12, Now(running=2, failed=second // 6, round=f"verify, {second} of 12"))
    lines.step("deduplicate", 12, 12, Now(round="verify, 12 of 12"))  # more may come
    lines.step("deduplicate", 12, 12)
    assert capsys.readouterr().err.splitlines() == [
        "deduplicate: 0/12; verify, 0 of 12; 2 running",
        "deduplicate: 5/12; verify, 5 of 12; 2 running; 1.0 tasks/s",
        "deduplicate: 10/12; 1 failed; verify, 10 of 12; 2 running; 1.0 tasks/s",
        "deduplicate: 12/12",
    ]


def test_a_line_tells_how_long_it_takes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    lines = Lines()
    for second, done in ((0, 40), (5, 40), (10, 41), (15, 100), (20, 500)):  # 40 were done before
        clock[0] = 100.0 + second
        lines.step("annotate", done, 500)
    assert capsys.readouterr().err.splitlines() == [
        "annotate: 40/500",
        "annotate: 40/500",
        "annotate: 41/500; 6.0 tasks/min, 76 min left",
        "annotate: 100/500; 4.0 tasks/s, 2 min left",
        "annotate: 500/500",
    ]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "0 s"), (99.4, "99 s"), (100, "2 min"), (5999, "1 h 40 min"), (7500, "2 h 05 min"), (180_000, "2 d 2 h")],
)
def test_durations(seconds: float, told: str) -> None:
    assert progress.duration(seconds) == told


def test_watch_until_it_is_published(recipe: Path, tmp_path: Path) -> None:
    """From another process, while the run goes on; plain lines in a pipe."""
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_told(recipe, output, Killed("run_pack", 0))
    arguments = ["status", str(output), "--watch", "--every", "0.1"]
    command = [sys.executable, "-c", "from tokenmill.pipeline.cli import main; main()", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        first = watching.stdout.readline()
        assert first.startswith("ingest")
        with few_at_a_time():
            run_inline(recipe, output)
        rest, _ = watching.communicate(timeout=60)
    assert watching.returncode == 0
    assert "nothing is published yet" in rest
    assert rest.splitlines()[-1].startswith("published    manifests/run-00000.")


def test_a_bar_says_how_much_is_left_only_when_it_is_known() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=90)
    with progress.bars(console) as shown:
        bars = Bars(shown)
        bars.step("deduplicate", 3, 3, Now(running=1, round="verify, 3 of 4"))
        (task,) = shown.tasks
        assert (task.total, task.completed, task.finished) == (None, 3, False)
        console.print(shown.get_renderable())
        assert "3/3" in console.file.getvalue()  # type: ignore[attr-defined]
        assert "verify, 3 of 4; 1 running" in console.file.getvalue()  # type: ignore[attr-defined]
        bars.step("deduplicate", 4, 4)
        assert (task.total, task.finished) == (4, True)
