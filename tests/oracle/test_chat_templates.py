"""Chat templates of models as they are published, those that TRL brings, against `transformers`: ids and answers."""

import datetime
import json
import random
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from tests.pipeline.chat import chats
from tests.pipeline.tokens import byte_level_tokenizers
from tests.pipeline.tokens.sentence_tokenizers import added
from tokenmill.pipeline.chat.conversation import Conversation
from tokenmill.pipeline.chat.template import ChatTemplate
from tokenmill.pipeline.chat.tokens import ChatEncoder
from tokenmill.pipeline.tokens.encode import TokenizerPolicy

TRL = find_spec("trl")  # its module is not imported
FOLDERS = (TRL.submodule_search_locations or []) if TRL else []
TEMPLATES = sorted(path for folder in FOLDERS for path in Path(folder).glob("chat_templates/*.jinja"))
#: What control tokens look like in templates: <|im_start|>, <start_of_turn>, [INST].
CONTROL = re.compile(r"<[|｜]?[A-Za-z_/][^<>'\"{}\s]{0,60}>|\[/?[A-Z]{3,}\w*\]|\[gMASK\]")
BOS, EOS = "<bos-token>", "<eos-token>"
DAY = datetime.datetime(2026, 7, 1)


class Frozen(datetime.datetime):
    """A clock that stands."""

    @classmethod
    def now(cls, tz: Any = None) -> "Frozen":
        return cls(DAY.year, DAY.month, DAY.day, tzinfo=tz)


def tokenizer_json(source: str) -> bytes:
    """A byte-level tokenizer with all that looks like a control token of a template."""
    value = json.loads(json.dumps(byte_level_tokenizers.train(byte_level_tokenizers.PRE_TOKENIZERS["qwen2"])))
    known = len(value["model"]["vocab"])
    names = dict.fromkeys([BOS, EOS, *CONTROL.findall(source)])
    for number, name in enumerate(names):
        value["added_tokens"].append(added(name, known + number, special="think" not in name))
    return json.dumps(value).encode()


def plain(value: Any) -> Any:
    """A value of JSON whose strings spell no control token."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return chats.without_control(value) if isinstance(value, str) else value


def conversations(kind: str) -> list[Conversation]:
    rng = random.Random(kind)
    found = []
    for _ in range(8):
        one = chats.conversation(rng, reasoning=kind == "reasoning", tools=kind == "tools", plain=True)
        turns = tuple(turn._replace(fields=plain(turn.fields)) for turn in one.turns)
        found.append(Conversation(turns, plain(one.tools)))
    return found


def rendered(peer: PreTrainedTokenizerFast, asked: dict[str, Any]) -> str | None:
    """What `transformers` makes of a conversation; None where the template raises, whatever that is."""
    try:
        return str(peer.apply_chat_template(**asked, tokenize=False))
    except Exception:
        return None


def loses_a_turn(text: str, conversation: Conversation) -> bool:
    return any(turn.content.strip() and turn.content.strip() not in text for turn in conversation.turns)


@pytest.mark.skipif(not TEMPLATES, reason="TRL is not installed")
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_ids_and_answers_are_those_of_transformers(path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of what `transformers` renders only a conversation of which a turn is not printed is refused."""
    monkeypatch.setattr(chat_template_utils, "datetime", Frozen)
    template = ChatTemplate(path.read_text(), {"bos_token": BOS, "eos_token": EOS}, date=DAY.date())
    data = tokenizer_json(template.source)
    peer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(data.decode()), chat_template=template.source, bos_token=BOS, eos_token=EOS
    )
    encoder = ChatEncoder(data, template, TokenizerPolicy(None, None, None, None, append_eos=False))
    for kind in ("plain", "reasoning", "tools"):
        several = conversations(kind)
        found = encoder.encode(several)
        for number, one in enumerate(several):
            asked = {"conversation": chats.messages(one), "tools": one.tools}
            reason, at = found.reasons[number], slice(found.offsets[number], found.offsets[number + 1])
            text = rendered(peer, asked)
            if reason or text is None:
                assert reason
                assert text is None or loses_a_turn(text, one), reason
                continue
            mask = {"return_assistant_tokens_mask": True} if template.generation else {}
            expected = peer.apply_chat_template(**asked, tokenize=True, return_dict=True, **mask)
            assert found.tokens[at].tolist() == expected["input_ids"]
            if template.generation:
                assert found.answers[at].tolist() == [one == 1 for one in expected["assistant_masks"]]


@pytest.mark.skipif(not TEMPLATES, reason="TRL is not installed")
def test_most_templates_take_conversations():
    """The test above is of something: all but those for images print contents."""
    taken = 0
    for path in TEMPLATES:
        template = ChatTemplate(path.read_text(), {"bos_token": BOS, "eos_token": EOS}, date=DAY.date())
        encoder = ChatEncoder(
            tokenizer_json(template.source), template, TokenizerPolicy(None, None, None, None, append_eos=False)
        )
        taken += any(reason is None for reason in encoder.encode(conversations("plain")).reasons)
    assert taken >= len(TEMPLATES) - 6 >= 60
