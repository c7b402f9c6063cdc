import datetime
import json
import random

import pytest

from tests.pipeline.chat import chats, layouts
from tests.pipeline.chat.test_symbolic import rendered, renderer, replayed
from tokenmill.pipeline.chat.conversation import Conversation, Turn, message_of
from tokenmill.pipeline.chat.rendering import Marks, marks_of
from tokenmill.pipeline.chat.sandbox import MissingDateError
from tokenmill.pipeline.chat.template import ChatTemplate, tokenizer_template

HELLO = Conversation((Turn("user", "hello"),))


def test_a_message_has_what_is_not_none():
    turn = Turn("assistant", "x", None, {"tool_calls": [], "name": None, "role": "root"})
    assert message_of(turn) == {"tool_calls": [], "role": "assistant", "content": "x"}


@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_renderings_are_those_of_transformers(name):
    template, rng = layouts.template(name), random.Random(5)
    found = renderer(template)
    for _ in range(150):
        conversation = chats.conversation(rng, reasoning=name in ("Qwen3", "prefixed"), tools=name == "Qwen2.5")
        expected = rendered(template, conversation)
        assert replayed(found, conversation) == expected
        assert template.render(conversation) == expected
    if name not in ("Qwen2.5", "Qwen3", "prefixed"):
        assert found.runs == 8  # with and without a system prompt, one to four answers


def test_no_jinja_is_told_at_once():
    with pytest.raises(ValueError, match=r"no Jinja: unexpected '}', in its line 2: '\{\{ messages } }'"):
        ChatTemplate("x\n{{ messages } }", {})
    with pytest.raises(ValueError, match="No filter named 'random'"):
        ChatTemplate("{{ [1, 2] | random }}", {})


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set ns = namespace(x='ab') %}{% for a in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for a in range(64) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for a in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{{ 'a' * 10 ** 12 }}",
        "{{ 2 ** (2 ** 40) }}",
        "{% set ns = namespace(x=3) %}{% for a in range(64) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
        "{{ [1] * 10 ** 12 }}",
        "{{ 10 ** 12 * [1] }}",
        "{{ 'a' | center(10000000000) }}",
        "{{ 'a'.zfill(10000000000) }}",
        "{{ '%10000000000d' % 1 }}",
        "{{ '%*d' % (10000000000, 1) }}",
        "{{ [1, [2]] | tojson(indent=10000000000) }}",
        "{% set x = 'abcdefgh' * 1000000 %}{% for a in range(1000) %}{{ x }}{% endfor %}",
        "{% for a in range(99999) %}{{ range(99999) | list | length }}{% endfor %}",
    ],
)
def test_an_endless_template_ends(source):
    found = renderer(ChatTemplate(source, {}))
    assert replayed(found, HELLO) == "template_endless"
    assert replayed(found, HELLO) == "template_endless"


def test_large_numbers_are_no_large_things():
    source = (
        "{{ 1700000000 + 1 }} {{ 1700000000 * 1000 }} {{ 2 ** 70 }} {{ '%d' % 1700000000 }} {{ 1700000000 | string }}"
    )
    expected = "1700000001 1700000000000 1180591620717411303424 1700000000 1700000000"
    assert replayed(renderer(ChatTemplate(source, {})), HELLO) == expected


def test_an_endless_template_is_run_once():
    found = renderer(ChatTemplate("{% for a in range(99999) %}{% for b in range(999) %}{% endfor %}{% endfor %}", {}))
    assert {replayed(found, HELLO) for _ in range(3)} == {"template_endless"}
    assert found.runs == 1


def test_what_a_template_refuses_has_its_reason():
    found = renderer(layouts.template("Gemma"))
    two = Conversation((Turn("user", "a"), Turn("user", "b")))
    reason = "template_refused: Roles must alternate user/assistant/user/assistant/..."
    assert [replayed(found, two) for _ in range(2)] == [reason, reason]
    assert found.runs == 1
    found = renderer(ChatTemplate("{{ raise_exception('not: ' + messages[0].content) }}", {}))
    assert replayed(found, HELLO) == "template_refused: not: hello"
    assert replayed(found, Conversation((Turn("user", "bye"),))) == "template_refused: not: bye"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ messages[7].content }}", "list object has no element 7"),
        ("{{ messages[0].content.__class__.mro() }}", "access to attribute '__class__' of 'str' object is unsafe."),
        ("{{ messages.append(1) }}", "access to attribute 'append' of 'list' object is unsafe."),
        ("{% set n = namespace(_a=1) %}", "a namespace of a chat template cannot have the attribute '_a'"),
        ("{{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
        ("{% include 'x' %}", "TypeError: no loader for this environment specified"),
    ],
)
def test_a_template_that_fails_refuses(source, reason):
    assert replayed(renderer(ChatTemplate(source, {})), HELLO) == f"template_refused: {reason}"


def test_the_date_is_the_one_given():
    source = "{{ strftime_now('%d %b %Y') }}{{ messages[0].content }}"
    template = ChatTemplate(source, {}, date=datetime.date(2024, 7, 26))
    assert replayed(renderer(template), HELLO) == "26 Jul 2024hello"
    for use in (marks_of, lambda template: renderer(template).find(HELLO), lambda template: template.render(HELLO)):
        with pytest.raises(MissingDateError, match="give the date"):
            use(ChatTemplate(source, {}))


def test_variables_are_seen():
    prompt = "<|im_start|>assistant\n"
    assert marks_of(layouts.template("Qwen3")).prompt == prompt
    template = layouts.template("Qwen3", variables={"enable_thinking": False})
    assert marks_of(template) == Marks(
        f"{prompt}<think>\n\n</think>\n\n", "<|im_end|>\n", "<|im_end|>\n<|im_start|>user\n"
    )


def test_the_template_beside_a_tokenizer():
    bos = {"content": "<s>", "lstrip": False}
    config = {"bos_token": bos, "eos_token": "</s>", "pad_token": None, "chat_template": "{{ bos_token }}a"}
    assert tokenizer_template(json.dumps(config).encode(), None).render(HELLO) == "<s>a"
    assert tokenizer_template(json.dumps(config).encode(), b"{{ eos_token }}b").render(HELLO) == "</s>b"
    config["chat_template"] = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]
    named = json.dumps(config).encode()
    assert [tokenizer_template(named, None, name).render(HELLO) for name in ("default", "tool_use")] == ["d", "t"]
    with pytest.raises(
        ValueError, match=r"asked for the chat template 'rag', tokenizer_config\.json has default, tool_use"
    ):
        tokenizer_template(named, None, "rag")
    with pytest.raises(ValueError, match="lies no chat template"):
        tokenizer_template(b"{}", None)
