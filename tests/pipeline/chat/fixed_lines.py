"""Conversations as lines of JSONL: which are plain, and every oddity by which one is not."""

import json
from typing import Any


def messages(*contents: str, **others: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[k % 2], "content": text} for k, text in enumerate(contents)], **others}


def sharegpt(*contents: str, **others: Any) -> dict[str, Any]:
    roles = ("human", "gpt")
    return {"conversations": [{"value": text, "from": roles[k % 2]} for k, text in enumerate(contents)], **others}


#: First and last of as many bytes of UTF-8, or of planes.
EDGES = [
    "\x20\x7e",
    "\x80\u07ff\u0800\ud7ff\ue000\uffff",
    "\U00010000\U0003ffff\U00040000\U000fffff\U00100000\U0010ffff",
]
CALLED = messages("q", "<tool_call>\n{}</tool_call>")["messages"]
TOLD = [{"role": "tool", "content": ""}, {"role": "assistant", "content": "b"}]
PLAIN = {
    "two turns": messages("a", "b"),
    "escapes": messages('\n\t\r"\\/', "ü數😀\u2028\uffff"),
    "long": messages("x" * 10_000, "é" * 5_000),
    "sharegpt": sharegpt("a", "b", "c", "d"),
    "a name": messages("a", "b", id="n-1"),
    "a number": sharegpt("a", "b", id=123456789012345678),
    "nested": messages("a", "b", meta={"x": [1, -2.5e3, {"y": [[], {}, None, True, False]}], "messages": 1}),
    "before": {"source": "s", **messages("a", "b")},
    "system": {"messages": [{"role": "developer", "content": ""}, *messages("a", "b")["messages"]]},
    "a call": {"messages": CALLED},
    "a tool behind the word": {"messages": [*messages("q", "so <tool_call>")["messages"], *TOLD]},
    "the word for a call alone": messages("q", "<tool_call>"),
    "a tool": {"messages": [*CALLED, *TOLD]},
    "edges": messages(*EDGES, "b"),
    "white space around": messages(" a ", "\n\u3000b\x85"),
}
OTHER = {
    "no turns": {"messages": []},
    "blank": messages("a", " \n\u3000\x85"),
    "no answer": messages("a"),
    "tools": messages("a", "b", tools=[]),
    "answer": messages("a", answer="b"),
    "system apart": messages("a", "b", system="s"),
    "both keys": {**messages("a", "b"), **sharegpt("a", "b")},
    "a control character": messages("a", "b\x00"),
    "DEL": messages("a", "b\x7f"),
    "a lone surrogate": messages("a", "b\ud800"),
    "a field more": {"messages": [{"role": "user", "content": "a", "name": "x"}, *CALLED]},
    "a tool uncalled": {
        "messages": [*messages("q", "<tool_call")["messages"], {"role": "tool", "content": ""}, *CALLED[1:]]
    },
    "pieces": {"messages": [{"role": "user", "content": ["a"]}, *CALLED[1:]]},
    "function_call": {"messages": [CALLED[0], {"from": "function_call", "value": "{}"}]},
    "an odd role": {"messages": [{"role": "User", "content": "a"}, *CALLED[1:]]},
    "a long id": messages("a", "b", id=10**18),
    "an escape in an id": messages("a", "b", id="a\n"),
    "no id": messages("a", "b", id=None),
    "deep": messages("a", "b", x=json.loads("[" * 61 + "]" * 61)),
    "a long number": messages("a", "b", x=10**300),
}
#: What stands in a string but must not, or as `clean` would not leave it.
ODD_CONTENTS = [
    b"\t",
    b"\x00",
    b"\x7f",
    b"\\x",
    b"\\b",
    b"\\f",
    b"\\u00",
    b"\\u00g0",
    b"\\u0000",
    b"\\u000B",
    b"\\u007f",
    b"\\",
]
ODD_CONTENTS += [b"\\ud800", b"\\udc00", b"\\ud83d\\ud83d", b"\\ud83dx\\ude00", b"\\ud83d\\u0041", b"\\ud83d\\nde00"]
#: What is not well-formed: cut short, longer than need be, surrogates, beyond U+10FFFF, no character's first byte.
ODD_CONTENTS += [
    b"\xc3",
    b"\xe2\x80",
    b"\xe2\x80x",
    b"\xf0\x9f\x98",
    b"\xc0\x80",
    b"\xc1\xbf",
    b"\xe0\x9f\xbf",
    b"\xf0\x8f\xbf\xbf",
]
ODD_CONTENTS += [b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\x80", b"\xff"]
#: Beside turns, or around them.
ODD_OBJECTS = [
    b'{"id": "a", "id": "b", %s}',
    b'{"id": 01, %s}',
    b'{"id": -1, %s}',
    b'{"id": 1.0, %s}',
    b'{"id": , %s}',
    b'{"messages": [], %s}',
    b'{%s, "messages": []}',
    b'{"messag\\u0065s": [], %s}',
    b'{"x": NaN, %s}',
    b'{"x": 01, %s}',
    b'{"x": -, %s}',
    b'{"x": 1., %s}',
    b'{"x": 1e, %s}',
    b'{"x": nul, %s}',
    b'{"x": [1,], %s}',
    b'{"x": [1 2], %s}',
    b'{"x": {"y"}, %s}',
    b'{"x": {"y": 1,}, %s}',
    b'{"x": {1: 1}, %s}',
    b'{"x": {"y": 1], %s}',
    b'{"x": [1}, %s}',
    b'{"x": "\xff", %s}',
    b'{"x", %s}',
    b"{x: 1, %s}",
    b"{%s",
    b"{%s]",
    b"{%s}}",
    b"{%s} x",
    b"{%s,}",
    b"[%s]",
    b"\xef\xbb\xbf{%s}",
    b"\x0b{%s}",
]
ODD_TURNS = [
    b'[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},]',
    b'[{"role": "user", "content": "a"} {"role": "assistant", "content": "b"}]',
    b'[{"role": "user", "content": "a",}, {"role": "assistant", "content": "b"}]',
    b'[{"role": "user" "content": "a"}, {"role": "assistant", "content": "b"}]',
    b'[{"role": "user", "content": "a", "role": "user"}, {"role": "assistant", "content": "b"}]',
    b'[{"role": "user", "role": "user"}, {"role": "assistant", "content": "b"}]',
    b'[{"role": "user", "value": "a"}, {"role": "assistant", "content": "b"}]',
    b'[{"role": "us\\u0065r", "content": "a"}, {"role": "assistant", "content": "b"}]',
    b'[{"rol\\u0065": "user", "content": "a"}, {"role": "assistant", "content": "b"}]',
    b'[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}',
    b'[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}}',
    b'[{"role": "user", "content": null}, {"role": "assistant", "content": "b"}]',
    b'{"role": "user", "content": "a"}',
]
GOOD_TURNS = b'"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'
#: Lines that are no JSON, or JSON that `json.dumps` does not write.
RAW_OTHER = [
    b"",
    b"{}",
    b'{"x": 1}',
    b'{"id": "a"}',
    *(data % GOOD_TURNS for data in ODD_OBJECTS),
    *(b'{"messages": %s}' % data for data in ODD_TURNS),
    *(b"{%s}" % GOOD_TURNS.replace(b'"a"', b'"a%s"' % data) for data in ODD_CONTENTS),
]
RAW_PLAIN = [
    b"{%s}" % GOOD_TURNS,
    b"\r\t {%s}\t\r" % GOOD_TURNS,
    b'{%s, "x": 0, "x": -0.0E+1}' % GOOD_TURNS.replace(b" ", b"\t\r "),
    b"{%s}" % GOOD_TURNS.replace(b'"a"', b'"\\u0009\\u000a\\u000D\\u00e9\\uD83D\\ude00\\/"'),
]
