"""Hygiene signals against the obvious versions, one turn at a time, in Python."""

import re
from collections import Counter
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.filters.slow_signals import array, words
from tests.filters.test_loops import loops
from tokenmill.filters.bounds import first_violated
from tokenmill.filters.chat import CHAT_SCHEMA, PLACEHOLDERS, REFUSALS, ChatBounds, ChatParams, chat_signals
from tokenmill.filters.repetition import gopher_repetition_signals
from tokenmill.filters.splitter import SplitTexts, split_sentences, split_words
from tokenmill.manifests.schemas import TURNS

Turns = list[tuple[str, str]]
PARAMS = ChatParams(leak_words=4)


def conversation(turns: Turns, answer: str | None = None, calls: bool = False) -> tuple[str, dict[str, Any]]:
    """The text, and the row of TURNS."""
    text, spans = "", []
    for role, content in turns:
        start = len(text.encode())
        text += content
        fields = '{"tool_calls":[]}' if calls and role == "assistant" else None
        spans.append({"role": role, "start": start, "end": len(text.encode()), "branch": None, "fields": fields})
        text += "\n\n"
    return text, {"turns": spans, "tools": None, "kind": "conversation", "answer": answer, "checker": None}


def measured(*cases: Turns | None, answer: str | None = None, calls: bool = False) -> list[dict[str, Any]]:
    made = [("", None) if case is None else conversation(case, answer, calls) for case in cases]
    texts = array(None if row is None else text for text, row in made)
    rows = [row or dict.fromkeys(TURNS.names) for _, row in made]
    return chat_signals(texts, PARAMS, pa.RecordBatch.from_pylist(rows, schema=TURNS)).to_pylist()


def measure(*turns: tuple[str, str], **others: Any) -> dict[str, Any]:
    (found,) = measured(list(turns), **others)
    return found


def thinks(content: str) -> tuple[dict[str, int], int, str]:
    """Counts, bytes of thinking, and what is said outside of it."""
    counts, depth, said, thought, place, opened = Counter(), 0, "", 0, 0, 0
    for tag in re.finditer("</?think>", content):
        if tag[0] == "<think>":
            if depth == 0:
                said += content[place : tag.start()]
                opened = tag.start()
            counts["nested_thinks"] += depth > 0
            depth += 1
            continue
        if depth == 0:
            counts["unopened_thinks"] += 1
            said, thought = "", len(content[: tag.end()].encode())
        elif depth == 1:
            block = content[opened : tag.end()]
            counts["empty_thinks"] += not block[len("<think>") : -len("</think>")].strip()
            thought += len(block.encode())
        depth = max(0, depth - 1)
        place = tag.end()
    if depth:
        counts["unfinished_thinks"] = 1
        thought += len(content[opened:].encode())
    else:
        said += content[place:]
    return dict(counts), thought, said.strip()


def duplicate_sentences(text: str) -> float:
    spans = split_sentences(split_words(array([text])))
    raw = re.sub(rb"[0-9]", b"0", spans.data.tobytes())
    sentences = [raw[start:end].decode() for start, end in zip(spans.starts, spans.ends, strict=True)]
    again = sum(len(each) for at, each in enumerate(sentences) if each in sentences[:at])
    return again / sum(map(len, sentences)) if sentences else 0.0


def leaked(prompts: list[str], answer: str) -> float:
    told, given_words, num = words(answer), [words(prompt) for prompt in prompts], PARAMS.leak_words
    num = num if len(told) >= num else len(told)
    if num < 3:
        return 0.0
    runs = {tuple(each[at : at + num]) for each in given_words for at in range(len(each) - num + 1)}
    hits = [at for at in range(len(told) - num + 1) if tuple(told[at : at + num]) in runs]
    return len({word for at in hits for word in range(at, at + num)}) / len(told)


def slow(turns: Turns, answer: str | None) -> dict[str, Any]:
    answers = [content for role, content in turns if role == "assistant"]
    sizes = [len(each.encode()) for each in answers]
    seen = [thinks(each) for each in answers]
    said = [text.lower().replace("\u2019", "'") for _, _, text in seen]
    found: dict[str, Any] = dict.fromkeys(CHAT_SCHEMA.names, 0)
    found |= {
        "turns": len(turns),
        "prompt_bytes": sum(len(content.encode()) for role, content in turns if role != "assistant"),
        "answer_bytes": sum(sizes),
        "shortest_answer_bytes": min(sizes, default=None),
        "longest_answer_bytes": max(sizes, default=None),
        "empty_answers": sum(not text for text in said),
        "placeholder_answers": sum(text in PLACEHOLDERS for text in said),
        "refusals": sum(text.startswith(REFUSALS) for text in said),
    }
    for name in ("unfinished_thinks", "nested_thinks", "empty_thinks", "unopened_thinks"):
        found[name] = sum(counts.get(name, 0) for counts, _, _ in seen)
    looped = loops(answers, PARAMS.loop_words, PARAMS.plain_loop_words)
    grams = gopher_repetition_signals(SplitTexts(array(answers))).column("duplicate_10_gram_character_fraction")
    found["loop_repeats"] = max([most for most, _ in looped], default=0)
    shares = [[size and count / size for (_, count), size in zip(looped, sizes, strict=True)]]
    shares += [[size and thought / size for (_, thought, _), size in zip(seen, sizes, strict=True)]]
    found["loop_fraction"], found["think_fraction"] = (max(each, default=0) for each in shares)
    found["duplicate_sentence_fraction"] = max(map(duplicate_sentences, answers), default=0)
    found["duplicate_ngram_fraction"] = max(grams.to_pylist(), default=0)
    leaks = [
        leaked([told for other, told in turns[:at] if other != "assistant"], content)
        for at, (role, content) in enumerate(turns)
        if role == "assistant"
    ]
    if answer is not None:
        leaks.append(leaked([told for other, told in turns if other != "assistant"], answer))
    found["answer_in_prompt_fraction"] = max(leaks, default=0)
    return found


PIECES = st.sampled_from(
    [
        *(
            "<think>",
            "</think>",
            "<think",
            " ",
            "\n",
            "I\u2019m unable to",
            "I'M JUST AN AI",
            "Sorry",
            "n/a",
            "...",
            "TODO",
        ),
        *(
            "It is so. ",
            "Step 12 is done. ",
            "Step 34 is done. ",
            "one two three four five ",
            "no ",
            "日本",
            "é",
            "<",
            "",
        ),
        *("the cat sat on the mat and the dog ran off. ", "42", "-----"),
    ]
)
CONTENTS = st.lists(PIECES, max_size=8).map("".join) | PIECES.flatmap(lambda piece: st.just(piece * 9))
ROLES = st.sampled_from(["system", "user", "assistant", "assistant", "tool"])
CASES = st.lists(st.none() | st.lists(st.tuples(ROLES, CONTENTS), min_size=1, max_size=5), min_size=1, max_size=4)


@settings(deadline=None, max_examples=200)
@given(CASES, st.none() | CONTENTS)
@example([[("user", "x"), ("assistant", "a</think><think>b</think> <think>c")]], None)
def test_signals_are_those_of_the_oracle(cases: list[Turns | None], answer: str | None):
    found = measured(*cases, answer=answer)
    for case, signals in zip(cases, found, strict=True):
        assert signals == (dict.fromkeys(CHAT_SCHEMA.names) if case is None else slow(case, answer))


@settings(deadline=None)
@given(st.lists(st.none() | CONTENTS, max_size=4))
def test_a_text_without_turns_is_one_answer(contents: list[str | None]):
    found = chat_signals(array(contents), PARAMS).to_pylist()
    assert found == measured(*(None if each is None else [("assistant", each)] for each in contents))


USER = ("user", "Tell me about the old bridge over the river, please.")


@pytest.mark.parametrize(
    ("reason", "answer"),
    [
        (None, "It was built in 1821, of stone, and it has three arches."),
        (None, "<think>\nLet me see.\n</think>\n\nIt has three arches."),
        (None, "I'm sorry, but I can not tell."),  # refusals are told of; the recipe drops them
        ("max_empty_answers", " \n"),
        ("max_empty_answers", "<think>hm</think> \n"),
        ("max_placeholder_answers", "N/A "),
        ("max_placeholder_answers", "<think>hm</think>[Insert answer here]"),
        ("max_unfinished_thinks", "It has three arches. <think>Or has it?"),
        ("max_nested_thinks", "<think>a<think>b</think>c</think>Three."),
        ("max_loop_repeats", "It has arches. " + "It is of stone. " * 3),
        ("max_duplicate_sentence_fraction", "".join(f"Arch {n} is of stone. " for n in range(10, 40))),
    ],
)
def test_default_bounds(reason: str | None, answer: str):
    _, row = conversation([USER, ("assistant", answer)])
    text = array([conversation([USER, ("assistant", answer)])[0]])
    signals = chat_signals(text, ChatParams(), pa.RecordBatch.from_pylist([row], schema=TURNS))
    (found,) = first_violated(signals, asdict(ChatBounds()), "chat").to_pylist()
    assert found == (reason and f"chat.{reason}")


def test_a_call_of_a_tool_is_no_empty_answer():
    assert measure(USER, ("assistant", ""), calls=True)["empty_answers"] == 0
    assert measure(USER, ("assistant", ""))["empty_answers"] == 1


def test_leaks():
    prompt = ("user", "Is it true that the bridge was built of stone in 1821?")
    assert measure(prompt, ("assistant", "the bridge was built of"))["answer_in_prompt_fraction"] == 1
    assert measure(prompt, ("assistant", "built of stone"))["answer_in_prompt_fraction"] == 1
    assert measure(prompt, ("assistant", "stone"))["answer_in_prompt_fraction"] == 0
    half = measure(prompt, ("assistant", "No one says the bridge was built"))["answer_in_prompt_fraction"]
    assert half == 4 / 7
    # what is asked later leaks nothing
    assert measure(("user", "?"), ("assistant", prompt[1]), prompt)["answer_in_prompt_fraction"] == 0
    assert measure(prompt, answer="built of stone in 1821")["answer_in_prompt_fraction"] == 1


@pytest.mark.parametrize(
    ("given_params", "message"),
    [
        ({"loop_words": 0}, "loop_words is a number of words, 1 or more, not 0"),
        ({"leak_words": True}, "leak_words is a number"),
        ({"refusals": "No"}, "refusals is a list of phrases"),
        ({"placeholders": ["N/A"]}, "phrases are in lower case, without white space around them, not 'N/A'"),
    ],
)
def test_params_that_cannot_be(given_params: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        ChatParams(**given_params)


def test_lists_from_a_recipe_are_tuples():
    assert ChatParams(refusals=["no"]).refusals == ("no",)  # type: ignore[arg-type]
    assert measure(USER, ("assistant", "No."))["refusals"] == 0
