"""Executors: a task that raises or kills its worker fails by name, and the others are done; a worker uses one core."""

import os
import subprocess
import sys

import pytest

_SCRIPT = """
import os
from tokenmill.pipeline.executors import Failed, open_executor

def work(shared, item):
    if item == "dies" and EXECUTOR == "ray":
        os._exit(1)
    if item == "threads":
        return shared + os.environ["OMP_NUM_THREADS"] + os.environ.get("NUMBA_NUM_THREADS", "-")
    if item == "raises":
        raise ValueError(f"no {item}")
    return shared + item

EXECUTOR = {executor!r}
with open_executor(EXECUTOR, num_cpus=2) as executor:
    found = dict(executor.map(work, "a ", ["x", "raises", "y", "dies", "z", "threads"]))
for index in range(6):
    result = found[index]
    failed = isinstance(result, Failed)
    print(result.error if failed else result, "|", failed and "work" in result.trace)
print(os.environ["OMP_NUM_THREADS"], os.environ.get("NUMBA_NUM_THREADS"))
"""


@pytest.mark.parametrize(
    ("executor", "fourth", "threads"),
    [
        ("inline", "a dies | False", "a 3- | False"),
        ("ray", "its worker died 3 times: out of memory, or killed | False", "a 11 | False"),
    ],
)
def test_failures_are_named_and_the_rest_is_done(executor: str, fourth: str, threads: str):
    script = _SCRIPT.replace("{executor!r}", repr(executor))
    # someone else's cluster, which Ray would try to join if it were not told to start its own
    env = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1", "OMP_NUM_THREADS": "3"}
    env.pop("NUMBA_NUM_THREADS", None)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-7:] == [
        "a x | False",
        "ValueError: no raises | True",
        "a y | False",
        fourth,
        "a z | False",
        threads,
        "3 None",  # this process has what it had
    ]


def test_an_executor_that_is_none():
    from tokenmill.pipeline.executors import open_executor

    with pytest.raises(ValueError, match="executor 'spark' is neither 'inline' nor 'ray'"):
        open_executor("spark")
