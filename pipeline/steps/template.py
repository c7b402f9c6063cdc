"""template: the chat template of a run of conversations, put into the run with the special tokens that it sees."""

import json
from typing import Any

from tokenmill.manifests.receipts import Output, Task, canonical_json, hash_json
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.chat.template import ChatTemplate, special_tokens, tokenizer_template
from tokenmill.pipeline.recipe import Recipe, Template
from tokenmill.pipeline.storage import open_url

VERSION = 1


def run_template(run: TaskRun, recipe: Recipe) -> Output:
    """Put the run's template in place."""
    value = as_json(read_template(recipe))
    task = Task("template", VERSION, "", "all", {}, {"template": hash_json(value)})

    def work(key: str) -> Work:
        stored = run.storage.write(f"tokenizer/template.{key}.json", canonical_json(value).encode())
        return Work((Output("template", stored.path, stored.bytes, stored.hash),))

    return run.once(task, work).outputs[0]


def read_template(recipe: Recipe) -> ChatTemplate:
    """The recipe's template, with the special tokens of the tokenizer_config.json, or else those that the recipe names.

    Raises:
        FileNotFoundError: there is no file at `template.path`.
        ValueError: there is no template, or it is no Jinja.
    """
    asked = recipe.template or Template()
    config = _beside(recipe, "tokenizer_config.json")
    named = {f"{name}_token": getattr(recipe.tokenizer, name) for name in ("bos", "eos", "pad", "mask")}
    tokens = {name: token for name, token in named.items() if token is not None}
    tokens |= special_tokens(json.loads(config)) if config else {}
    if asked.path is not None:
        with open_url(asked.path) as file:
            source = file.read().decode()
    elif asked.text is not None:
        source = asked.text
    else:
        own = _beside(recipe, "chat_template.jinja")
        source = tokenizer_template(config, own, asked.name, asked.variables, asked.date).source
    return ChatTemplate(source, tokens, asked.variables, asked.date)


def as_json(template: ChatTemplate) -> dict[str, Any]:
    """All that a template's text depends on."""
    return {
        "source": template.source,
        "special_tokens": template.special_tokens,
        "variables": template.variables,
        "date": None if template.date is None else template.date.isoformat(),
    }


def of_json(stored: bytes) -> ChatTemplate:
    """The template that a run keeps, from the bytes of its file."""
    value = json.loads(stored)
    asked = Template(variables=value["variables"], date=value["date"])
    return ChatTemplate(value["source"], value["special_tokens"], asked.variables, asked.date)


def _beside(recipe: Recipe, name: str) -> bytes | None:
    """A file beside the recipe's tokenizer.json; None where there is none."""
    if recipe.tokenizer.path is None:
        return None
    folder, slash, _ = recipe.tokenizer.path.rpartition("/")
    try:
        with open_url(folder + slash + name) as file:
            return file.read()
    except FileNotFoundError:
        return None
