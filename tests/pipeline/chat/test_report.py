"""`tokenmill report` of a run of conversations: tokens by role, and documents turn by turn."""

import html
import re
from pathlib import Path

import pytest

from tests.pipeline.chat.raw_chats import write_raw
from tests.pipeline.chat.test_pack import RECIPE, TEMPLATE, records
from tests.pipeline.report.pages import page_of
from tests.pipeline.runs import newest, run_inline


def test_roles_and_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    write_raw(records()[:7], TEMPLATE)
    Path("r.yaml").write_text(RECIPE.replace("LAYOUT", "concat"))
    run_inline(Path("r.yaml"), "out")
    page = html.unescape(page_of(Path("out")).decode())
    (table,) = re.findall(r"<caption>Tokens of conversations by role</caption>.*?</table>", page, re.DOTALL)
    roles = newest("out").value["balance"]["chat"]["roles"]
    for name, count in roles.items():
        if name != "answer_eos_tokens":
            assert f"{count:,}" in table
    first = records()[0]["messages"]
    assert f"{first[0]['role']}: {first[0]['content']}\n{first[1]['role']}: {first[1]['content']}" in page
