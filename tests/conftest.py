"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.pipeline.corpus import write_corpus, write_recipe
from tests.pipeline.runs import run_inline, tokenmill

# No time limits: machines are shared. A test run draws the same examples each time; `make fuzz` explores.
settings.register_profile("tokenmill", deadline=None, derandomize=True)
settings.register_profile("fuzz", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("TOKENMILL_HYPOTHESIS_PROFILE", "tokenmill"))

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; the test is skipped, saying so, where there is none."""
    folder = Path(os.environ.get("TOKENMILL_REAL_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data: TOKENMILL_REAL_DATA names no folder ({folder})")
    return folder


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished `tokenmill demo`, made once; tests only read it."""
    output = tmp_path_factory.mktemp("demo") / "out"
    output.parent.joinpath("said").write_text(tokenmill("demo", "--output", str(output)))
    return output


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of the tests' corpus, made once; tests only read it."""
    folder = tmp_path_factory.mktemp("small")
    run_inline(write_recipe(write_corpus(folder)), folder / "out")
    return folder / "out"
