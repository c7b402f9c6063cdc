"""Chat templates: a tokenizer's own, or one in the recipe."""

import datetime
import json
import re
from collections.abc import Mapping
from typing import Any

import jinja2

from tokenmill.pipeline.chat.conversation import Conversation, message_of
from tokenmill.pipeline.chat.limits import EndlessError
from tokenmill.pipeline.chat.sandbox import MissingDateError, Sandbox
from tokenmill.pipeline.chat.tracing import Trace

#: Characters of a template's message that a reason has.
MOST_REASON = 200


class ChatTemplate:
    """A chat template, compiled as `transformers` compiles it.

    It sees `messages`, `tools`, `documents` (none), `add_generation_prompt`, the special tokens and the variables.

    Attributes:
        source: Jinja.
        special_tokens: such as {"bos_token": "<s>"}.
        variables: what else it sees, such as {"enable_thinking": False}; plain JSON values.
        date: what `strftime_now` prints; None: a template that calls it is an error.
        generation: it has {% generation %}.
    """

    def __init__(
        self,
        source: str,
        special_tokens: Mapping[str, str],
        variables: Mapping[str, Any] | None = None,
        date: datetime.date | None = None,
    ) -> None:
        """Compile the template. Raises ValueError, naming the line, where it is no Jinja."""
        self.source, self.special_tokens, self.variables = source, dict(special_tokens), dict(variables or {})
        self.date = date
        self.sandbox = Sandbox(date)
        self.generation = re.search(r"\{%[-+]?\s*generation\s*[-+]?%\}", source) is not None
        try:
            self._template = self.sandbox.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            lines = source.splitlines()
            line = lines[error.lineno - 1].strip() if 0 < error.lineno <= len(lines) else ""
            raise ValueError(
                f"the chat template is no Jinja: {error.message}, in its line {error.lineno}: {line[:200]!r}; mend the "
                "template, or name another"
            ) from None

    def run(
        self, messages: Any, tools: Any, trace: Trace | None = None, add_generation_prompt: bool = False
    ) -> list[Any]:
        """What the template prints of messages: strings, and Texts where these hold some."""
        values = {"messages": messages, "tools": tools, "documents": None}
        values |= {"add_generation_prompt": add_generation_prompt, **self.special_tokens, **self.variables}
        return self.sandbox.run(self._template, values, trace)

    def render(self, conversation: Conversation, add_generation_prompt: bool = False) -> str:
        """The conversation as text. Raises what the template raises; EndlessError where it takes too long."""
        messages = [message_of(turn) for turn in conversation.turns]
        return "".join(self.run(messages, conversation.tools, None, add_generation_prompt))

    def refusal(self, conversation: Conversation, add_generation_prompt: bool = False) -> str | None:
        """Why the template does not take a conversation: a reason; None: it does."""
        try:
            self.render(conversation, add_generation_prompt)
        except (EndlessError, RecursionError):
            return "template_endless"
        except (MissingDateError, MemoryError):
            raise
        except Exception as error:  # whatever a stranger's program may raise
            message = error.message if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: {error}"
            return f"template_refused: {str(message)[:MOST_REASON]}"
        return None


def tokenizer_template(
    tokenizer_config: bytes | None,
    chat_template: bytes | None,
    name: str = "default",
    variables: Mapping[str, Any] | None = None,
    date: datetime.date | None = None,
) -> ChatTemplate:
    """The template that lies beside a tokenizer.json.

    Args:
        tokenizer_config: bytes of tokenizer_config.json, which names the special tokens.
        chat_template: bytes of chat_template.jinja, which goes before a template in tokenizer_config.json.
        name: which, where tokenizer_config.json has several.
        variables: see ChatTemplate.
        date: see ChatTemplate.

    Raises:
        ValueError: there is none, none of that name, or it is no Jinja.
    """
    config = json.loads(tokenizer_config) if tokenizer_config else {}
    found: Any = chat_template.decode() if chat_template else config.get("chat_template")
    if isinstance(found, list):
        named = {one["name"]: one["template"] for one in found}
        if name not in named:
            raise ValueError(f"asked for the chat template {name!r}, tokenizer_config.json has {', '.join(named)}")
        found = named[name]
    if not isinstance(found, str):
        raise ValueError(
            "beside the tokenizer.json lies no chat template: neither chat_template.jinja nor `chat_template` in "
            "tokenizer_config.json; give one in the recipe"
        )
    return ChatTemplate(found, special_tokens(config), variables, date)


def special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """Names and contents of the special tokens that a tokenizer_config.json states, as templates see them."""
    found = {}
    for name, value in config.items():
        content = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(content, str):
            found[name] = content
    return found
