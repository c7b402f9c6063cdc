"""A run of a few conversations, packed as `test_pack` has it, in another layout."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.chat.raw_chats import write_raw
from tests.pipeline.chat.test_pack import RECIPE, TEMPLATE
from tests.pipeline.runs import run_inline


def packed_run(folder: Path, layout: str, length: int, records: Sequence[dict[str, Any]]) -> Path:
    """Run a recipe of these records in `folder`; the run's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_raw(records, TEMPLATE)
        recipe = RECIPE.replace("LAYOUT", layout).replace("length: 256", f"length: {length}")
        Path("r.yaml").write_text(recipe.replace("max_epochs: 12", "max_epochs: 2"))
        run_inline(Path("r.yaml"), "out")
    return folder / "out"
