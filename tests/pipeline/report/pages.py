"""Make a run's page in tests, in this process."""

from pathlib import Path

from tests.pipeline.runs import newest
from tokenmill.pipeline.report.report import report
from tokenmill.pipeline.scan import opening
from tokenmill.pipeline.storage import Storage


def page_of(folder: Path) -> bytes:
    """The page of a run's newest version."""
    return report(Storage(str(folder)), newest(folder), opening("inline", None, None, True))
