"""A small set of conversations from the docstrings of Python's own library, for infra/recipes/sft.yaml.

    python conversations.py FOLDER

writes FOLDER/messages.jsonl (questions about functions, answered by their docstrings; some with a system prompt, a
second question or reasoning), FOLDER/alpaca.jsonl (the same in another shape) and FOLDER/spoiled.jsonl: answers that
loop, a `<think>` that never ends, a wrong order of roles, a line that is no JSON, for the filters to find.
"""

import argparse
import ast
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description="Conversations from the docstrings of Python's library.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    found = list(documented(Path(sysconfig.get_path("stdlib"))))
    messages = [{"id": number, "messages": turns(number, *each)} for number, each in enumerate(found) if number % 4]
    alpaca = [{"instruction": question(name), "output": text} for name, text in found[::4]]
    for name, records in (("messages", messages), ("alpaca", alpaca), ("spoiled", spoiled(found))):
        lines = [json.dumps(record) + "\n" if record is not None else "{no json\n" for record in records]
        (folder / f"{name}.jsonl").write_text("".join(lines))
        print(f"{len(lines):,} records in {folder / f'{name}.jsonl'}")


def documented(library: Path) -> Iterator[tuple[str, str]]:
    """Names and docstrings of the public functions of the library's modules, in order of their names."""
    for file in sorted(library.glob("[a-z]*.py")):
        for node in ast.parse(file.read_text(errors="replace")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                text = ast.get_docstring(node)
                if text and len(text) >= 40:
                    yield f"{file.stem}.{node.name}", text


def question(name: str) -> str:
    """What is asked about a function."""
    return f"What does `{name}` do in Python?"


def turns(number: int, name: str, text: str) -> list[dict[str, str]]:
    """A conversation about a function."""
    found = [{"role": "system", "content": "You explain Python's library."}] if number % 3 == 0 else []
    thought = f"<think>\nThey ask about {name.split('.')[0]}.\n</think>\n\n" if number % 5 == 0 else ""
    found += [{"role": "user", "content": question(name)}, {"role": "assistant", "content": thought + text}]
    if number % 6 == 0:
        first = text.split("\n")[0]
        found += [{"role": "user", "content": "In one line, please."}, {"role": "assistant", "content": first}]
    return found


def spoiled(found: list[tuple[str, str]]) -> list[dict[str, Any] | None]:
    """Records that are not to be trained on; None: a line that is no JSON."""
    (name, text), other = found[0], found[1][1]
    ask = {"role": "user", "content": question(name)}
    looping = " ".join(["So we try again, and look at the argument once more."] * 40)
    return [
        {"messages": [ask, {"role": "assistant", "content": f"{text}\n\n{looping}"}]},
        {"messages": [ask, {"role": "assistant", "content": f"<think>\n{other}"}]},
        {"messages": [ask, ask, {"role": "assistant", "content": text}]},
        {"messages": [ask, {"role": "assistant", "content": ""}]},
        None,
    ]


if __name__ == "__main__":
    main()
