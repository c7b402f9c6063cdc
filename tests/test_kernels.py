"""Helpers: parts of kernels, compiled once and nowhere but in them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from tokenmill.kernels import allocating_helper, helper, kernel


@helper
def added(values, at, what):  # type: ignore[no-untyped-def]
    """Two helpers deep, with a tuple to hand back and an error to raise."""
    if what == 13:
        raise ValueError("thirteen")
    return at + 1, values[at] + tripled(what)


@helper
def tripled(what):  # type: ignore[no-untyped-def]
    return 3 * what


@kernel
def added_up(values, what):  # type: ignore[no-untyped-def]
    at, total = 0, 0
    at, one = added(values, 0, 2)
    while at < len(values):
        at, one = added(values, at, what)
        total += one
    return total


@allocating_helper
def doubled(values):  # type: ignore[no-untyped-def]
    out = np.empty(len(values), np.int64)
    for k in range(len(values)):
        out[k] = 2 * values[k]
    return out


@njit
def doubled_twice(values):  # type: ignore[no-untyped-def]
    return doubled(doubled(values))


def test_a_kernel_gives_what_its_source_says():
    values = np.arange(5)
    assert added_up(values, 7) == sum(range(1, 5)) + 4 * 21
    assert doubled_twice(values).tolist() == [0, 4, 8, 12, 16]
    with pytest.raises(ValueError, match="thirteen"):
        added_up(values, 13)


def test_a_helper_is_compiled_once_for_numbers_known_beforehand_and_others():
    added_up(np.arange(2), 7)
    assert [str(signature[1:]) for signature in added.signatures] == ["(int64, int64)"]
    assert len(tripled.signatures) == 1


def test_no_machine_code_is_made_of_a_helper():
    added_up(np.arange(2), 7)
    (compiled,) = added.overloads.values()
    engine = compiled.library.codegen._engine
    assert not engine.is_symbol_defined(compiled.fndesc.llvm_func_name)
    (caller,) = added_up.overloads.values()
    assert engine.is_symbol_defined(caller.fndesc.llvm_func_name)


def test_python_cannot_call_a_helper():
    with pytest.raises(TypeError, match=r"added is a helper.*added\.py_func"):
        added(np.arange(3), 0, 1)
    added_up(np.arange(2), 7)  # nor after it was compiled
    with pytest.raises(TypeError, match="added is a helper"):
        added(np.arange(3), 0, 1)
    assert tripled.py_func(4) == 12


def test_a_kernel_with_helpers_is_read_from_the_disk(tmp_path: Path):
    (tmp_path / "two.py").write_text(
        "import numpy as np\n"
        "from tokenmill.kernels import helper, kernel\n"
        "@helper\ndef least(values, at):\n    return min(values[at], values[at + 1])\n"
        "@kernel\ndef total(values):\n"
        "    found = 0\n    for at in range(len(values) - 1):\n        found += least(values, at)\n    return found\n"
        "print(total(np.array([5, 2, 9, 4])), sum(total.stats.cache_hits.values()))\n"
    )
    environment = {"TOKENMILL_CACHE_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    said = [
        subprocess.run(
            [sys.executable, "two.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert said == ["8 0\n", "8 1\n"]
