"""The Hugging Face example on two processes: each row comes once, and a resumed run is the unbroken one."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

EXAMPLE = REPOSITORY / "infra" / "examples" / "hugging_face_trainer.py"


@pytest.mark.skipif(
    not all(map(find_spec, ("torch", "transformers", "accelerate"))), reason="transformers or accelerate is missing"
)
def test_two_ranks_train_and_resume(run, tmp_path: Path):
    driver = REPOSITORY / "tests" / "loader" / "trainer_ranks.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", driver]
    environment = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*command, EXAMPLE, run.root, tmp_path / "checkpoints", tmp_path],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [rank["ranks"] for rank in ranks] == [2, 2]
    size, steps, accumulated = ranks[0]["sizes"]
    for rank, found in enumerate(ranks):
        first_rows = range(0, steps * accumulated * 2 * size, 2 * size)
        assert found["whole"]["rows"] == [[first + rank + 2 * i for i in range(size)] for first in first_rows]
        assert found["resumed"]["rows"] == found["whole"]["rows"][2 * accumulated :]
        assert found["resumed"]["weights"] == found["whole"]["weights"] == ranks[0]["whole"]["weights"]
    state = json.loads((tmp_path / "checkpoints" / "checkpoint-2" / "loader.json").read_text())
    assert state["next_row"] == 2 * accumulated * 2 * size
