"""A run's metrics, scraped from the exporter of a real Ray, and the dashboard that reads them."""

import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.test_dedup_whole import RECIPE, few_at_a_time, write_notes
from tokenmill.pipeline.executors import InlineExecutor
from tokenmill.pipeline.metrics import Metered
from tokenmill.pipeline.prepare import prepare
from tokenmill.pipeline.progress import Quiet
from tokenmill.pipeline.recipe.file import load_recipe
from tokenmill.pipeline.run import Run
from tokenmill.pipeline.storage import Storage

DASHBOARD = Path(__file__).parents[2] / "infra" / "grafana" / "tokenmill.json"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of the metrics of a Ray of one node."""
    pytest.importorskip("prometheus_client", reason="Ray exports nothing without ray[default]")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings: dict[str, Any] = {"address": "local", "num_cpus": 1, "include_dashboard": False, "log_to_driver": False}
    often = {"metrics_report_interval_ms": 200}
    ray.init(**settings, logging_level="ERROR", _metrics_export_port=port, _system_config=often)
    yield f"http://127.0.0.1:{port}/metrics"
    ray.shutdown()


def scraped(address: str) -> Samples:
    """Ours among the samples, by name and the tags that are ours; nothing while the exporter is not up."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            text = answer.read().decode()
    except (urllib.error.URLError, ConnectionError):
        return {}
    found: Samples = {}
    for name, tags, value in re.findall(r"^(ray_tokenmill_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        known = re.findall(r'(run|step|state|source|fate|le)="([^"]*)"', tags)
        found[name, frozenset(known)] = float(value)
    return found


def test_a_run_through_the_exporter(exporter: str, tmp_path: Path) -> None:
    write_notes(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("{folder}", str(tmp_path)).replace("{settings}", "{verify: text}"))
    recipe_file, storage = load_recipe(path.read_text(), str(path)), Storage(str(tmp_path / "out"))
    with few_at_a_time():
        reporter = Metered(Quiet(), recipe_file.recipe.name)
        published = Run(recipe_file, storage, InlineExecutor(), reporter).go(prepare(recipe_file, storage))
    expected: Samples = {}
    run = ("run", recipe_file.recipe.name)
    for source, sheet in published.value["balance"].items():
        tags = {run, ("source", source), ("step", "pack"), ("fate", "out")}
        documents, _, tokens = sheet["steps"]["pack"]["out"]
        expected["ray_tokenmill_documents_total", frozenset(tags)] = documents
        expected["ray_tokenmill_tokens_total", frozenset(tags)] = tokens
    for state in ("done", "total"):
        expected["ray_tokenmill_tasks", frozenset({run, ("step", "publish"), ("state", state)})] = 1
    deadline = time.monotonic() + 60
    while not expected.items() <= (found := scraped(exporter)).items() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert {key: found.get(key) for key in expected} == expected
    parts = found["ray_tokenmill_task_seconds_count", frozenset({run, ("step", "ingest")})]
    assert parts == found["ray_tokenmill_tasks", frozenset({run, ("step", "ingest"), ("state", "total")})]
    asked = {
        name for panel in panels() for target in panel["targets"] for name in re.findall(r"ray_\w+", target["expr"])
    }
    assert asked <= {name for name, _ in found}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def test_the_dashboard_is_whole() -> None:
    assert len({panel["id"] for panel in panels()}) == len(panels()) >= 8
    for panel in panels():
        assert panel["title"]
        for target in panel["targets"]:
            expression = target["expr"]
            assert expression.count("(") == expression.count(")")
            assert 'run=~"$run"' in expression
            assert target["datasource"]["uid"] == "${datasource}"
