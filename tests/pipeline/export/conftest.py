from pathlib import Path

import pytest

from tests.pipeline.export.small_export import write_run


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small published run; tests only read it."""
    return write_run(tmp_path_factory.mktemp("export"))
