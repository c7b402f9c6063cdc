"""Raw conversations and a template in the working directory, as the recipes of these tests name them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write_raw(records: Sequence[dict[str, Any]], template: str, files: int = 1) -> None:
    """Write raw/a.jsonl, or the records by turns into raw/0.jsonl, raw/1.jsonl and so on; and template.jinja."""
    Path("raw").mkdir()
    lines = [json.dumps(record) + "\n" for record in records]
    for number in range(files):
        name = "a" if files == 1 else str(number)
        Path(f"raw/{name}.jsonl").write_text("".join(lines[number::files]))
    Path("template.jinja").write_text(template)
