"""`tokenmill diff` of datasets of conversations: samples, roles and templates, against the tables read whole."""

import json
import shutil
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from click.testing import CliRunner
from hypothesis import given

from tests.pipeline.chat.test_pack import RECIPE, TEMPLATE
from tests.pipeline.runs import newest, run_inline
from tokenmill.pipeline.chat.conversation import Conversation, Turn
from tokenmill.pipeline.chat.turns import differing, turns_batch
from tokenmill.pipeline.cli import cli

COUNT = 30


def records() -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"Question {number}?"},
                {"role": "assistant", "content": f"The answer to it is {number * 7}."},
            ]
        }
        for number in range(COUNT)
    ]


def changed() -> list[dict[str, Any]]:
    """The text of one, the role of a turn of another, a call and the tools of others; one empty, two more."""
    found = records()
    found[1]["messages"][1]["content"] = "It is another one."
    found[2]["messages"][0]["role"] = "system"
    found[2]["messages"].insert(1, {"role": "user", "content": "Question 2, again?"})
    found[3]["messages"] = [{"role": "system", "content": "Be kind."}, *found[3]["messages"]]
    found[4]["messages"][0]["name"] = "anna"
    found[5]["tools"] = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    found[6]["messages"][1]["content"] = ""
    more = [{"messages": [{"role": "user", "content": f"More {at}?"}, found[0]["messages"][1]]} for at in range(2)]
    return [*found, *more]


def write(folder: Path, values: list[dict[str, Any]]) -> None:
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    (folder / "raw" / "a.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
    (folder / "template.jinja").write_text(TEMPLATE)
    (folder / "sft.yaml").write_text(RECIPE.replace("LAYOUT", "concat"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `one/out` and `two/out`; `one/out` has a second version, of another template."""
    folder = tmp_path_factory.mktemp("chat_diff")
    with pytest.MonkeyPatch.context() as patch:
        for name, values in (("one", records()), ("two", changed())):
            write(folder / name, values)
            patch.chdir(folder / name)
            run_inline(Path("sft.yaml"), "out")
        patch.chdir(folder / "one")
        Path("template.jinja").write_text(TEMPLATE.replace("{{ '\\n' }}{% endfor %}", "{% endfor %}"))
        run_inline(Path("sft.yaml"), "out")
    return folder


def said(*arguments: str) -> str:
    return CliRunner().invoke(cli, ["diff", *arguments], catch_exceptions=False).stdout


def differences(*named: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(said(*named, "--json"))
    return value


def test_samples(runs: Path):
    value = differences(f"{runs}/one/out@0", f"{runs}/two/out")
    assert value["documents"]["chat"] == {
        **{"before": COUNT, "after": COUNT + 2, "same": COUNT - 6, "changed": 5, "removed": 0, "added": 2},
        "same": COUNT - 5,
    }
    # the sixth has no answer any more; what two more say was not there
    assert value["packed"]["chat"] == {
        **{"before": COUNT, "after": COUNT + 1, "same": COUNT - 6, "changed": 5, "dropped": 1, "added": 2}
    }
    assert [(line["from"], line["to"]) for line in value["moved"]] == [("packed", "failed.chat.empty_answer")]
    assert value["template"] == []


def test_turns_alone_are_a_change(runs: Path, tmp_path: Path):
    """A name and tools leave the text as it is."""
    write(tmp_path, [changed()[at] if at in (4, 5) else one for at, one in enumerate(records())])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        run_inline(Path("sft.yaml"), "out")
    value = differences(f"{runs}/one/out@0", f"{tmp_path}/out")
    assert value["packed"]["chat"] == {
        **{"before": COUNT, "after": COUNT, "same": COUNT - 2, "changed": 2, "dropped": 0, "added": 0}
    }
    assert value["moved"] == []


def test_the_template_and_tokens_by_role(runs: Path):
    value = differences(f"{runs}/one/out@0", f"{runs}/one/out@1")
    assert (value["recipe"], value["moved"]) == ([], [])
    assert value["packed"]["chat"]["same"] == COUNT
    (line,) = value["template"]
    assert (line["key"], line["before"]) == ("source", TEMPLATE)
    sheets = [newest(runs / "one" / "out").value["balance"]["chat"]["roles"]]
    roles = {line["role"]: (line["before"], line["after"]) for line in value["roles"]}
    assert {role: after for role, (_, after) in roles.items()} == {
        name.removesuffix("_tokens"): count for name, count in sheets[0].items()
    }
    before, after = roles["template"]
    assert before - after == 2 * COUNT  # a newline behind each turn
    assert roles["answer"][0] - roles["answer"][1] == COUNT  # one of them leads to the end
    assert roles["user"][0] == roles["user"][1] > 0
    text = said(f"{runs}/one/out@0", f"{runs}/one/out@1")
    assert "\nchat template\n  source: line 1 " in text
    assert f"  chat user              {roles['user'][0]:>16,}" in text


def test_versions_are_named_by_their_hashes(runs: Path):
    value = differences(f"{runs}/one/out@0", f"{runs}/one/out@1")
    found = newest(runs / "one" / "out")
    assert value["versions"][1] == {
        "hash": found.path.split(".")[1],
        "mixture": Path(found.value["mixture"]).stem,
    }
    assert value["versions"][0]["hash"] != value["versions"][1]["hash"]
    assert f"version {value['versions'][0]['hash']}, mixture" in said(f"{runs}/one/out@0", f"{runs}/one/out@1")


def test_parts_of_one_version_alone(runs: Path, tmp_path: Path):
    """Another file is another part: its samples are added, what is gone is dropped."""
    shutil.copytree(runs / "two", tmp_path / "two", ignore=shutil.ignore_patterns("out"))
    (tmp_path / "two" / "raw" / "a.jsonl").rename(tmp_path / "two" / "raw" / "b.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "two")
        run_inline(Path("sft.yaml"), "out")
    value = differences(f"{runs}/two/out", f"{tmp_path}/two/out")
    assert value["packed"]["chat"] == {
        **{"before": COUNT + 1, "after": COUNT + 1, "same": 0, "changed": 0},
        **{"dropped": COUNT + 1, "added": COUNT + 1},
    }


TURNS = st.builds(
    Turn,
    st.sampled_from(["user", "assistant"]),
    st.sampled_from(["", "a", "é", "bb"]),
    st.sampled_from([None, "chosen"]),
    st.sampled_from([None, {"name": "x"}, {"name": "y"}]),
)
CONVERSATIONS = st.builds(
    Conversation,
    st.lists(TURNS, min_size=1, max_size=3).map(tuple),
    st.sampled_from([None, [], [{"a": 1}]]),
    st.sampled_from(["conversation", "verifiable"]),
    st.sampled_from([None, "4"]),
    st.sampled_from([None, "exact"]),
)


@given(st.lists(st.tuples(st.none() | CONVERSATIONS, st.none() | CONVERSATIONS, st.booleans()), max_size=8))
def test_rows_of_turns_differ_where_they_are_not_equal(pairs: list[tuple[Any, Any, bool]]):
    one = turns_batch([first for first, _, _ in pairs])
    two = turns_batch([first if same else second for first, second, same in pairs])
    expected = [a != b for a, b in zip(one.to_pylist(), two.to_pylist(), strict=True)]
    assert differing(one, two).tolist() == expected
    assert differing(one[1:], two[1:]).tolist() == expected[1:]
