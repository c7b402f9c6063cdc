"""Answers of a run's conversations anew: the books, what is chosen, what outlives a crash, and who reads them."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from tests.pipeline.corpus import advert, prose
from tests.pipeline.regenerate.endpoint_server import EndpointServer, number_in, reply, serving
from tests.pipeline.regenerate.prompt_run import (
    MATH,
    RECIPE,
    TALK,
    answers,
    knows,
    left_out,
    make_run,
    math_records,
    recipe,
    recipe_text,
    regenerated,
    talk_records,
    written,
)
from tests.pipeline.runs import TOKENMILL, newest, run_inline, tokenmill
from tests.pipeline.test_takedown import removed
from tests.pipeline.test_takedown_erase import erased, texts_in
from tokenmill.manifests.balance import Balance
from tokenmill.pipeline.checks import verify
from tokenmill.pipeline.cli import cli
from tokenmill.pipeline.progress import NOTHING_MORE, Now, Quiet
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.regenerate import endpoint as endpoint_module
from tokenmill.pipeline.regenerate.endpoint import EndpointError
from tokenmill.pipeline.regenerate.source import regenerate
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.takedown import Asked


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prompts")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_run(folder)
    return folder


@pytest.fixture(autouse=True)
def _here(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the run is the working folder."""
    shutil.copytree(built, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(endpoint_module, "FIRST_PAUSE_S", 0.001)


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    with serving(knows) as found:
        yield found


def by_number(source: str) -> dict[int, dict[str, Any]]:
    """Written conversations by the first number in what is asked."""
    return {number_in({"messages": each["messages"][:-1]}): each for each in answers(source)}


def test_right_answers_are_chosen_and_the_books_balance(server: EndpointServer):
    found = regenerated(recipe(math={**MATH, "endpoint": server.url}))["math"]
    assert (found.before, found.asked, server.requests) == (0, 72, 72)
    chosen = by_number("math")
    assert sorted(chosen) == [n for n in range(24) if n % 6 != 0 and n not in (5, 7, 8)]
    for number, record in chosen.items():
        sample = 1 if number % 3 else 2  # the first that is right
        assert record["regenerated"]["sample"] == sample
        assert record["messages"][0] == {"role": "user", "content": math_records()[number]["prompt"]}
        assert record["messages"][1]["content"].endswith(f"</think>\n\nIt is {2 * number}.")
        assert (record["answer"], record["checker"]) == (f"{2 * number:,}", "number")
        assert record["regenerated"]["model"] == "served"
        assert record["id"] == record["regenerated"]["document"]
    assert found.value is not None
    balance = Balance.from_json(found.value["balance"])
    assert {reason: tally.documents for reason, tally in balance.dropped.items()} == {
        "regenerate.none_right": 4,
        "regenerate.cut_off": 1,
        "regenerate.empty": 1,
        "regenerate.nothing_to_check": 1,
        "regenerate.unreadable_answer": 1,
    }
    assert {reason: tally.documents for reason, tally in balance.failed.items()} == {"regenerate.failed.http_400": 1}
    assert (balance.taken.documents, balance.out.documents) == (26, 17)
    balance.check("here")
    assert len(left_out("math")) == 9
    assert found.value["samples"] == {
        **{"completion_tokens": 5 * 69, "prompt_tokens": 7 * 69, "regenerate.cut_off": 3, "regenerate.empty": 3},
        **{"regenerate.failed.http_400": 3, "regenerate.whole": 63},
    }
    assert {body["temperature"] for body in map(json.loads, server.counts)} == {0.8}


def test_what_is_asked_of_conversations_of_every_shape(server: EndpointServer):
    regenerated(recipe(talk={**TALK, "endpoint": server.url, "parameters": {"top_k": 20}, "top_p": 0.9}))
    # the copy and what is too short are not asked; what two ask alike is asked once
    assert server.requests == len(server.counts) == 2 * 11
    found = answers("talk")
    assert len(found) == 12
    bodies = [json.loads(body) for body in server.counts]
    assert {(body["top_k"], body["top_p"], body["model"]) for body in bodies} == {(20, 0.9, "m")}
    assert sorted(body["seed"] for body in bodies) == [0] * 11 + [1] * 11
    (tooled,) = [each for each in found if "tools" in each]
    (asked,) = [body for body in bodies if "tools" in body and body["seed"] == 0]
    assert [message["role"] for message in asked["messages"]] == ["system", "user", "assistant", "tool"]
    assert asked["messages"][2]["tool_calls"][0]["function"]["arguments"] == '{"at": 3}'
    assert "Short" not in asked["messages"][1]["content"]  # C4 took that line
    assert asked["tools"] == talk_records()[8]["tools"] == tooled["tools"]
    assert tooled["messages"][:-1] == [
        *asked["messages"][:2],
        {"role": "assistant", "content": "", "tool_calls": talk_records()[8]["messages"][2]["tool_calls"]},
        {"role": "tool", "content": asked["messages"][3]["content"], "name": "look"},
    ]
    assert tooled["messages"][-1]["content"] == reply(asked)
    (linked,) = [each for each in found if "url" in each]
    assert linked["url"] == "http://a.example/10"
    preferred = talk_records()[9]
    (paired,) = [each for each in found if each["messages"][0]["content"] == preferred["prompt"]]
    assert [message["role"] for message in paired["messages"]] == ["user", "assistant"]


def test_another_run_reads_the_answers(server: EndpointServer):
    regenerated(recipe(math={**MATH, "endpoint": server.url}, talk={**TALK, "endpoint": server.url}))
    sources = [
        {
            "name": name,
            "reader": "chat",
            "paths": [f"out/regenerated/{name}/answers/*.jsonl"],
            "columns": {"url": "url"},
        }
        for name in ("math", "talk")
    ]
    Path("next.yaml").write_text(yaml.safe_dump({**RECIPE, "output": "next", "sources": sources}))
    run_inline(Path("next.yaml"), "next")
    value = newest("next").value["balance"]
    steps = {name: value[name]["steps"] for name in ("math", "talk")}
    assert {name: each["ingest"]["failed"] for name, each in steps.items()} == {"math": {}, "talk": {}}
    assert steps["math"]["pack"]["out"][0] == 17
    # the two that asked the same have the same answer now, and one of them goes
    assert steps["talk"]["deduplicate"]["dropped"]["dedup.exact"][0] == 1
    # what the folder of the first run holds besides does not disturb it
    assert [finding for _, finding in verify(Storage("out"), newest("out")) if finding] == []
    # the same ledger gives the same files, so the second run has nothing to do
    regenerated(recipe(math={**MATH, "endpoint": server.url}))
    assert run_inline(Path("next.yaml"), "next")[1] == []


def test_nothing_is_asked_twice(server: EndpointServer):
    def go(**settings: Any) -> tuple[int, int]:
        before = server.requests
        found = regenerated(recipe(math={**MATH, "endpoint": server.url, **settings}))["math"]
        assert found.asked == server.requests - before
        return found.before, found.asked

    assert go() == (0, 72)
    first = written("math")
    assert go() == (69, 3)  # what failed is asked anew
    assert written("math") == first
    server.behaviour = lambda body, count: knows({**body, "messages": [{"content": "What is 1"}]}, count)
    assert go() == (69, 3)
    assert left_out("math") != first["left_out.jsonl"]
    second = written("math")
    assert go(concurrency=3, timeout_s=9, retries=1) == (72, 0)  # how it is asked says nothing of what
    assert written("math") == second
    assert go(choose={"by": "first"}) == (72, 6)  # two more prompts can be asked
    assert go(samples=4) == (72, 24)
    assert go(temperature=0.7)[0] == 0
    assert go(samples=2) == (48, 0)
    assert go(seed=7) == (0, 72)


def test_a_shared_ledger(server: EndpointServer):
    shutil.copytree("out", "other")
    settings = {**MATH, "endpoint": server.url, "ledger": "shared"}
    regenerated(recipe(math={**settings, "choose": "first"}))
    first = written("math")
    shutil.rmtree("out")
    shutil.move("other", "out")
    found = regenerated(recipe(math={**settings, "choose": "first"}))["math"]
    assert (found.before, found.asked) == (75, 3)
    assert written("math") == first


def test_a_dry_run_asks_and_writes_nothing(server: EndpointServer):
    found = regenerated(recipe(math={**MATH, "endpoint": server.url}), dry_run=True)["math"]
    assert (found.before, found.asked, found.value, server.requests) == (0, 72, None, 0)
    assert not Path("out/regenerated").exists()


def test_the_same_bytes_for_any_concurrency_and_order_of_answers():
    def late(body: Mapping[str, Any], count: int) -> Any:
        choice = knows(body, count)
        delay_s = (len(reply(body)) + number_in(body)) % 7 / 50
        return choice if isinstance(choice, str) else {**choice, "delay_s": delay_s}

    found = []
    for behaviour, concurrency in ((knows, 1), (late, 5), (late, 40)):
        shutil.rmtree("out/regenerated", ignore_errors=True)
        with serving(behaviour) as server:
            settings = {"endpoint": server.url, "concurrency": concurrency}
            regenerated(recipe(math={**MATH, **settings}))
            assert server.at_once <= concurrency
        found.append(written("math"))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 2 + 2  # of two parts
    assert server.at_once > 5


def test_a_bad_time_passes(server: EndpointServer):
    faults = ["429:0", "500", "half", "drop", "no json", "garbage", "hang"]

    def bad(body: Mapping[str, Any], count: int) -> Any:
        return faults[number_in(body) % len(faults)] if count == 1 and number_in(body) < 14 else knows(body, count)

    server.behaviour = knows
    regenerated(recipe(math={**MATH, "endpoint": server.url}))
    quiet = written("math")
    shutil.rmtree("out/regenerated")
    server.counts.clear()
    server.behaviour = bad
    regenerated(recipe(math={**MATH, "endpoint": server.url, "timeout_s": 0.7, "concurrency": 24}))
    assert written("math") == quiet
    assert server.requests > 72 + 30


def test_an_endpoint_that_dies_in_the_middle():
    with serving() as dying:
        dying.behaviour = lambda body, count: "drop" if sum(dying.answered.values()) >= 30 else knows(body, count)
        settings = {**MATH, "endpoint": dying.url, "concurrency": 4, "retries": 1, "choose": "first"}
        with pytest.raises(EndpointError, match="requests in a row found no answer at") as error:
            regenerated(recipe(math=settings))
    assert "the same command goes on" in str(error.value)
    assert not Path("out/regenerated/math/regenerated.json").exists()
    with serving(knows) as server:
        found = regenerated(recipe(math={**settings, "endpoint": server.url}))["math"]
        assert sum(dying.answered.values()) - 4 <= found.before <= sum(dying.answered.values())
        assert found.before + found.asked == 78
        assert server.requests == found.asked


def test_an_endpoint_that_refuses_everything_is_not_asked_for_long(server: EndpointServer):
    server.behaviour = lambda body, count: "400"
    with pytest.raises(EndpointError, match="all of the first 32 requests were refused by"):
        regenerated(recipe(math={**MATH, "endpoint": server.url, "concurrency": 2}))
    assert server.requests <= 34
    server.behaviour = lambda body, count: "404"
    with pytest.raises(EndpointError, match="answers 404 to model 'm'"):
        regenerated(recipe(math={**MATH, "endpoint": server.url, "concurrency": 2}))
    assert server.requests <= 36


def test_killed_at_any_point_it_goes_on_and_asks_again_what_was_under_way_alone():
    def slow(body: Mapping[str, Any], count: int) -> Any:
        choice = knows(body, count)
        return choice if isinstance(choice, str) else {**choice, "delay_s": 0.03}

    concurrency = 6
    with serving(slow) as server:
        Path("asked.yaml").write_text(
            recipe_text(math={**MATH, "endpoint": server.url, "concurrency": concurrency, "choose": "first"})
        )
        for kill, answered in enumerate((7, 40), 1):
            process = subprocess.Popen([TOKENMILL, "regenerate", "asked.yaml", "--quiet"], env={**os.environ})
            while sum(server.answered.values()) < answered:
                assert process.poll() is None
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.wait()
            while server.under_way:
                time.sleep(0.005)
            assert answered <= sum(server.answered.values()) < 75
            # what is refused has no answer, and is asked by each command
            again = [count - 1 for body, count in server.counts.items() if '"What is 8 ' not in body]
            assert sum(again) <= (kill - 1) * concurrency
        found = regenerated(load_recipe(Path("asked.yaml").read_text(), "asked.yaml"))["math"]
        assert found.before > 40 - 2 * concurrency
        assert sum(count - 1 for body, count in server.counts.items() if '"What is 8 ' not in body) <= 2 * concurrency
        interrupted = written("math")
        shutil.rmtree("out/regenerated")
        regenerated(load_recipe(Path("asked.yaml").read_text(), "asked.yaml"))
        assert written("math") == interrupted


def test_what_is_taken_down_is_no_longer_there(server: EndpointServer):
    settings = {**TALK, "endpoint": server.url}
    regenerated(recipe(talk=settings))
    assert "http://a.example/10" in {each.get("url") for each in answers("talk")}
    removed(Path("out"), Asked(urls=("http://a.example/10",)))
    found = regenerated(recipe(talk=settings))["talk"]
    assert found.asked == 0
    assert len(answers("talk")) == 11
    assert "http://a.example/10" not in {each.get("url") for each in answers("talk")}


def test_what_is_erased_leaves_no_byte(server: EndpointServer):
    server.behaviour = lambda body, count: {"message": {"content": f"You said {body['messages'][-1]['content']}"}}
    regenerated(recipe(talk={**TALK, "endpoint": server.url}))
    secret = talk_records()[10]["messages"][0]["content"].split(". ")[1][:30]

    def holding() -> set[str]:
        return {path.split("/")[0] for path, text in texts_in(Path("out/regenerated/talk")) if secret in text}

    shutil.copytree("out/tokenizer", "out/regenerated/talk/tokenizer")  # `texts_in` looks for one
    assert holding() == {"answers", "ledger"}
    before = len(answers("talk"))
    removed(Path("out"), Asked(urls=("http://a.example/10",)))
    erased(Path("out"))
    assert holding() == set()
    assert len(answers("talk")) == before - 1
    again = regenerated(recipe(talk={**TALK, "endpoint": server.url}))["talk"]
    assert (again.before, again.asked, len(answers("talk"))) == (20, 0, before - 1)


def test_a_classifier_chooses(server: EndpointServer, tmp_path: Path):
    from tests.pipeline.fasttext_models import train

    lines = [("positive", prose(n, 2).replace("\n", " ")) for n in range(60)]
    model = train(tmp_path, [*lines, *(("negative", advert(n).replace("\n", " ")) for n in range(60))])
    model.save_model(str(tmp_path / "prose.bin"))
    good = {0: 1, 1: 0, 2: 1, 3: 1}  # the sample that is prose; of others both are advertisements

    def behaviour(body: Mapping[str, Any], count: int) -> Any:
        number = number_in(body)
        text = prose(number, 2) if good.get(number) == body["seed"] else advert(number)
        return {"message": {"content": text}, "finish_reason": "stop"}

    server.behaviour = behaviour
    choose = {"by": "classifier", "model": str(tmp_path / "prose.bin")}
    regenerated(recipe(talk={**TALK, "endpoint": server.url, "choose": choose}))
    chosen = by_number("talk")
    assert {number: chosen[number]["regenerated"]["sample"] for number in good} == good
    assert chosen[5]["regenerated"]["sample"] == 0  # both score the same: the first
    assert chosen[0]["regenerated"]["score"] > 0.5 > chosen[5]["regenerated"]["score"]
    found = regenerated(recipe(talk={**TALK, "endpoint": server.url, "choose": {**choose, "min_score": 0.5}}))["talk"]
    assert found.asked == 0
    assert sorted(by_number("talk")) == sorted(good)
    assert set(left_out("talk").values()) == {"regenerate.min_score"}


def test_what_was_cut_off_may_be_kept(server: EndpointServer):
    settings = {**MATH, "endpoint": server.url, "choose": "first"}
    regenerated(recipe(math=settings))
    assert 5 not in by_number("math")
    regenerated(recipe(math={**settings, "keep_cut_off": True}))
    assert by_number("math")[5]["regenerated"]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("checker", "choose", "message"),
    [
        ("code", {}, r"source math: document \w+:0 wants checker 'code', and there are exact, number, choice"),
        (None, {}, r"source math: document \w+:0 has an answer to be checked and names no checker: say which"),
        ("gsm8k", {"checkers": {"gsm8k": "number"}}, None),
        (None, {"checker": "number"}, None),
    ],
)
def test_checkers_that_the_data_names(
    server: EndpointServer, tmp_path: Path, checker: str | None, choose: dict[str, Any], message: str | None
):
    regenerated(recipe(math={**MATH, "endpoint": server.url}))  # its answers go with the files that they are of
    server.counts.clear()
    record = {"prompt": f"What is 4 plus 4? {prose('x', 3)}", "answer": "8", "checker": checker}
    Path("raw/math/a.jsonl").write_text(json.dumps(record) + "\n")
    Path("raw/math/b.jsonl").unlink()
    run_inline(Path("recipe.yaml"), "out")
    file = recipe(math={**MATH, "endpoint": server.url, "choose": {"by": "verifiable", **choose}})
    if message is None:
        regenerated(file)
        assert list(by_number("math")) == [4]
    else:
        with pytest.raises(ValueError, match=message):
            regenerated(file)
        assert server.requests == 0


def test_a_recipe_that_the_run_was_not_made_by(server: EndpointServer):
    asked = recipe_text(math={**MATH, "endpoint": server.url})
    with pytest.raises(ValueError, match=r"\(sources.talk.filters.gopher_quality.min_words differ\): run it first"):
        regenerated(load_recipe(asked.replace("min_words: 8", "min_words: 9"), "r.yaml"))
    with pytest.raises(ValueError, match=r"no source in recipe.yaml has `regenerate"):
        regenerated(recipe())
    regenerated(load_recipe(asked.replace("length: 128", "length: 256"), "r.yaml"))
    # and what is asked anew is no part of the run: nothing is redone
    Path("recipe.yaml").write_text(asked)
    assert run_inline(Path("recipe.yaml"), "out")[1] == []


def test_people_see_how_far_it_is(server: EndpointServer):
    told: list[tuple[str, int, int, Now]] = []

    class Told(Quiet):
        def step(self, name: str, done: int, total: int, now: Now = NOTHING_MORE) -> None:
            told.append((name, done, total, now))

    file = recipe(math={**MATH, "endpoint": server.url})
    regenerate(file, Storage("out"), Told(), {})
    asked = [step for step in told if step[0] == "ask for math"]
    assert [done for _, done, _, _ in asked] == list(range(1, 73))
    assert {total for _, _, total, _ in asked} == {72}
    assert (asked[-1][3].running, asked[-1][3].failed) == (0, 3)
    assert asked[-1][3].told().endswith(" tokens/s")
    assert {name for name, *_ in told} == {"prompts of math", "ask for math", "choose for math"}


def test_the_command(server: EndpointServer):
    Path("asked.yaml").write_text(recipe_text(math={**MATH, "endpoint": server.url, "api_key_env": "MILL_KEY"}))
    said = tokenmill("regenerate", "asked.yaml", env={"MILL_KEY": "sk-secret"})
    assert "math: 72 requests were asked, 0 had an answer in the ledger" in said
    assert "regenerate.none_right" in said
    assert "3 requests failed: the same command asks them anew" in said
    assert "answers  out/regenerated/math/answers/*.jsonl" in said
    again = CliRunner().invoke(cli, ["regenerate", "asked.yaml", "--json", "--quiet"], env={"MILL_KEY": "sk-secret"})
    found = json.loads(again.output)
    assert (found["math"]["before"], found["math"]["asked"]) == (69, 3)
    assert server.headers["Authorization"] == "Bearer sk-secret"
    files = [path for path in Path("out").rglob("*") if path.is_file()]
    assert [str(path) for path in files if b"sk-secret" in path.read_bytes()] == []
    keyless = CliRunner().invoke(cli, ["regenerate", "asked.yaml"])
    assert "should be in $MILL_KEY, which is not set: export it" in str(keyless.exception)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"endpont": 1}, "unknown key 'endpont': did you mean 'endpoint'"),
        ({"endpoint": "ftp://x/v1"}, "is no base URL"),
        ({"endpoint": "http://me:secret@x/v1"}, "no password goes into it"),
        ({"endpoint": "http://x/v1/chat/completions"}, "leave out /chat/completions"),
        ({"parameters": {"n": 4}}, "`n` is no parameter to pass on: every sample is a request of its own"),
        ({"parameters": {"temperature": 1}}, "name it outside"),
        ({"parameters": {"x": float("nan")}}, "parameters must be JSON"),
        ({"api_key_env": "sk-123"}, "the name of an environment variable"),
        ({"choose": "best"}, "'first', 'verifiable' or 'classifier'"),
        ({"choose": {"by": "classifier"}}, "wants a fastText model"),
        ({"choose": {"by": "first", "checker": "exact"}}, "`checker` says nothing to `by: first`"),
        ({"choose": {"by": "verifiable", "checkers": {"math": "proof"}}}, "'exact', 'number' or 'choice'"),
        ({"samples": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str):
    with pytest.raises(RecipeError) as error:
        recipe(math={"endpoint": "http://127.0.0.1:1/v1", "model": "m", **settings})
    assert message in str(error.value)
    assert "secret" not in str(error.value)


def test_only_conversations_are_asked():
    text = recipe_text(math={"endpoint": "http://x/v1", "model": "m"}).replace("reader: chat", "reader: jsonl")
    with pytest.raises(RecipeError, match="`regenerate` says nothing to reader jsonl, only to chat"):
        load_recipe(text, "r.yaml")
