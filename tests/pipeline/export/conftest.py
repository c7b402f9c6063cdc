from pathlib import Path

import pytest

from tests.pipeline.export.small_export import write_run


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small published run; tests only read it."""
    return write_run(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="session")
def aligned_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the small one, each document at a multiple of 8."""
    return write_run(tmp_path_factory.mktemp("aligned_export"), align=8)


@pytest.fixture(params=["small_run", "aligned_run"])
def run(request: pytest.FixtureRequest) -> Path:
    """Either."""
    found: Path = request.getfixturevalue(request.param)
    return found
