"""Random lines of JSONL that hold conversations, or nearly: JSON written in every way, every fault."""

import json
import random
from typing import Any

from tokenmill.pipeline.chat.messages import ROLES

PIECES = [
    "a",
    "word ",
    "two words",
    " ",
    "",
    "\n",
    "\t",
    "\r",
    '"',
    "\\",
    "/",
    "é",
    "“”",
    "数学",
    "😀",
    "\u0085",
    "\u3000",
]
PIECES += ["<tool_call>", "<tool_cal", "<", "\u2028", "plain text of many letters and no sign that is odd, "]
ODD_PIECES = ["\x00e", "\x1b", "\x7f", "\b", "\f", "\ud800", "\udc00", "\ud83d\ud83d\ude00"]
KEYS = [
    "source",
    "score",
    "meta",
    "Ключ",
    "",
    'a"b',
    "messages2",
    "mess",
    "a key",
    "input",
    "tools",
    "answer",
    "system",
]
KEYS += ["messages", "conversations", "prompt", "chosen", "question", "history", "checker"]
SCALARS = ["true", "false", "null", "0", "-0", "-1.50", "1e9", "2E-3", "12345678901234567890", "1" * 301, "1" * 5000]
ODD_SCALARS = ["NaN", "-Infinity", "01", "1.", ".5", "+1", "tru", "nulll", "", "-", "1e", "'a'"]
_ADDED = [
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"0",
    b" ",
    b"\n",
    b"\x00",
    b"\x80",
    b"\xe2\x80",
    b"\xc0\x80",
]
_ADDED += [b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe0\x80\x80", b"\xf0\x9f\x98\x80"]


class Writer:
    """JSON text of pieces, written as nobody would."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.is_odd = rng.random() < 0.3  # most lines are fit to be read
        self.escapes = rng.choice([0.0, 0.0, 0.05, 0.5])
        self.blanks = rng.choice([0.0, 0.0, 0.3])

    def odd(self, chance: float) -> bool:
        return self.is_odd and self.rng.random() < chance

    def blank(self) -> str:
        return self.rng.choice([" ", "\t", "\r", "  "]) if self.rng.random() < self.blanks else ""

    def string(self, text: str) -> str:
        return '"' + "".join(map(self._character, text)) + '"'

    def name(self, text: str) -> str:
        """A key or a role, which few write with escapes."""
        return self.string(text) if self.odd(0.05) else json.dumps(text, ensure_ascii=False)

    def _character(self, character: str) -> str:
        short = json.dumps(character)[1:-1]
        must = character in '"\\' or character < " " or "\ud800" <= character <= "\udfff"
        if (must or self.rng.random() < self.escapes) and not self.odd(0.02):
            units = character.encode("utf-16-be", "surrogatepass")
            digits = self.rng.choice(["\\u%04x", "\\u%04X"])
            long = "".join(digits % int.from_bytes(units[k : k + 2], "big") for k in range(0, len(units), 2))
            return self.rng.choice([short, "\\/" if character == "/" else long])
        return character

    def object(self, pairs: list[tuple[str, str]]) -> str:
        """An object of keys and values that are JSON already."""
        blank = self.blank
        inner = ",".join(f"{blank()}{self.name(key)}{blank()}:{blank()}{told}{blank()}" for key, told in pairs)
        return "{" + (inner or blank()) + "}"

    def list(self, values: list[str]) -> str:
        return "[" + (",".join(f"{self.blank()}{value}{self.blank()}" for value in values) or self.blank()) + "]"

    def value(self, depth: int = 0) -> str:
        """Any value."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.4 or depth > 3:
            return rng.choice(ODD_SCALARS if self.odd(0.2) else SCALARS[:9] if rng.random() < 0.95 else SCALARS)
        if kind < 0.6:
            return self.string(self.text())
        if kind < 0.8:
            return self.list([self.value(depth + 1) for _ in range(rng.randrange(4))])
        return self.object([(rng.choice(KEYS), self.value(depth + 1)) for _ in range(rng.randrange(4))])

    def text(self) -> str:
        pieces = self.rng.choices(PIECES, k=self.rng.randrange(9))
        if self.odd(0.1):
            pieces.insert(self.rng.randint(0, len(pieces)), self.rng.choice(ODD_PIECES))
        return "".join(pieces)


def dialogue(writer: Writer) -> list[tuple[str, str]]:
    """Roles and contents, mostly as they may follow one another."""
    rng = writer.rng
    turns = [("system", writer.text())] if rng.random() < 0.3 else []
    for _ in range(rng.randint(1, 3)):
        turns += [("user", "q" + writer.text()), ("assistant", "a" + writer.text())]
        while rng.random() < 0.1:
            turns[-1] = ("assistant", turns[-1][1] + "<tool_call>{}</tool_call>")
            turns += [("tool", writer.text())] * rng.randint(1, 2) + [("assistant", writer.text())]
    if writer.odd(0.3):
        turns[rng.randrange(len(turns))] = (rng.choice(["system", "user", "assistant", "tool"]), writer.text())
    if writer.odd(0.1):
        del turns[rng.randrange(len(turns))]
    return turns


def message(writer: Writer, role: str, content: str) -> str:
    rng = writer.rng
    names = [name for name, meant in ROLES.items() if meant == role and name != "function_call"]
    name = rng.choice([role, rng.choice(names)])
    name = rng.choice([*ROLES, "Mensch", "stranger"]) if writer.odd(0.1) else name
    keys = rng.choice([("role", "content"), ("from", "value")])
    keys = (rng.choice(["role", "from"]), rng.choice(["content", "value"])) if writer.odd(0.05) else keys
    pairs = [(keys[0], writer.name(name)), (keys[1], writer.string(content))]
    if writer.odd(0.1):
        pairs.append((rng.choice(["name", "role", "content", "tool_calls", "thinking"]), writer.value()))
    if writer.odd(0.05):
        pairs[rng.randrange(len(pairs))] = (rng.choice(["role", "content", "value", "wight"]), writer.value())
    if rng.random() < 0.3:
        rng.shuffle(pairs)
    return writer.object(pairs)


def line(rng: random.Random) -> bytes:
    """A line without its end; it may hold what ends one."""
    writer = Writer(rng)
    messages = writer.list([message(writer, *turn) for turn in dialogue(writer)])
    pairs = [(rng.choice(["messages", "messages", "conversations"]), writer.value() if writer.odd(0.05) else messages)]
    for _ in range(rng.choice([0, 0, 1, 3])):
        key = rng.choice(KEYS if writer.odd(0.5) else KEYS[:4])
        pairs.insert(rng.randint(0, len(pairs)), (key, messages if writer.odd(0.1) else writer.value()))
    for _ in range(rng.choice([0, 0, 1, 1, 2 if writer.is_odd else 1])):
        name: Any = rng.choice([7, 0, 10**17, 10**18, "b", "ü\n", "", f"id {rng.randrange(9)}", rng.randrange(99)])
        told = writer.value() if writer.odd(0.3) else json.dumps(name, ensure_ascii=rng.random() < 0.5)
        pairs.insert(rng.randint(0, len(pairs)), ("id", told))
    data = (writer.blank() + writer.object(pairs) + writer.blank()).encode(errors="surrogatepass")
    if rng.random() < 0.03:
        data = rng.choice([b"", b" \r", b"{}", b"[]", b"null", b"\xef\xbb\xbf" + data])
    return mutated(rng, data) if rng.random() < 0.3 else data


def mutated(rng: random.Random, data: bytes) -> bytes:
    """With a few bytes changed, gone or too many."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(found) + 1)
        kind = rng.random()
        if kind < 0.4 and found:
            found[at - 1] ^= 1 << rng.randrange(8)
        elif kind < 0.6:
            del found[at : at + rng.randint(1, 4)]
        elif kind < 0.7:
            del found[at:]
        else:
            found[at:at] = rng.choice(_ADDED)
    return bytes(found)
