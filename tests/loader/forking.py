"""A trainer that forks in the midst, in a process of its own: one with a test's servers and threads must not fork."""

import subprocess
import sys

_CODE = """
import os, signal, sys
from tests.loader.row_digests import row_digests
from tokenmill.pipeline.loader import open_mixture
loader = open_mixture(sys.argv[1], batch_size=2)
iterator = iter(loader)
first = row_digests([next(iterator)])
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    signal.alarm(60)  # it ends, whatever it waits for
    os.write(writing, repr(row_digests(iterator)).encode())
    os._exit(0)
os.close(writing)
with os.fdopen(reading) as answer:
    of_child = answer.read()
assert os.waitpid(child, 0)[1] == 0
rest = row_digests(iterator)
assert of_child == repr(rest)
print(len(first | rest))
"""


def rows_after_a_fork(path: str) -> int:
    """Rows that both processes got the same, the first batch included, which came before the fork."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _CODE, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)
