"""The README's commands for classifiers, run as written on the demo's output."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_readme import BLOCKS
from tokenmill.pipeline.recipe import Percentile
from tokenmill.pipeline.recipe.file import load_recipe

pytest.importorskip("fasttext", reason="no package fasttext (fasttext-wheel 0.9.2) to train a model with")


def test_train_evaluate_and_score(demo_run: Path, tmp_path: Path):
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "demo").symlink_to(demo_run)
    (shell,) = [text for kind, text in BLOCKS if kind == "sh" and "classifier train" in text]
    done = subprocess.run(["bash", "-euc", shell], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("precision") >= 4  # training and evaluation, two tables each
    card = json.loads((tmp_path / "out" / "prose.bin.json").read_text())
    assert card["held_out"]["labels"]["positive"]["f1"] > 0.9
    assert "classifier.prose.min_score" in done.stdout
    assert "published out/scored/manifests/run-00000" in done.stdout
    (source,) = load_recipe((tmp_path / "out" / "scored.yaml").read_text(), "README.md", {}).recipe.sources
    assert source.filters[0].bounds["min_score"] == Percentile(percentile=90)
