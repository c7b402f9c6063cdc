"""Chat templates of our own writing, from the documented token layouts, and small tokenizers with their tokens."""

import functools
import json
from typing import Any

from tests.pipeline.tokens import byte_level_tokenizers, sentence_tokenizers
from tokenmill.pipeline.chat.template import ChatTemplate

QWEN2 = """
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] }}{%- else %}{{- 'Be of help.' }}{%- endif %}
    {{- "\\n\\n# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nBe of help.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) or
           (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}{{- '\\n' + message.content }}{%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}{%- set tool_call = tool_call.function %}{%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}{{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.index0 == 0 or messages[loop.index0 - 1].role != "tool" %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' }}{{- message.content }}{{- '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != "tool" %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

QWEN3 = """
{%- set ns = namespace(last=messages|length - 1, searching=true) %}
{%- for message in messages[::-1] %}
    {%- set index = messages|length - 1 - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string and
           not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.searching = false %}{%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}{%- set content = message.content %}
    {%- else %}{%- set content = '' %}{%- endif %}
    {%- if message.role != "assistant" %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- else %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\\n' }}
        {%- if loop.index0 > ns.last and (loop.last or thought) %}
            {{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}{{- content }}{%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
"""

LLAMA3 = """
{%- for message in messages %}
    {%- set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'
        + message['content'] | trim + '<|eot_id|>' %}
    {%- if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}
    {{- content }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}
"""

GEMMA = """
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set first = messages[0]['content'] + '\\n\\n' %}{%- set rest = messages[1:] %}
{%- else %}{%- set first = '' %}{%- set rest = messages %}{%- endif %}
{%- for message in rest %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
    {{- '<start_of_turn>' + role + '\\n' + (first if loop.first else '') }}
    {{- message['content'] | trim }}{{ '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{% endif %}
"""

MISTRAL = """
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] %}{%- set turns = messages[1:] %}
{%- else %}{%- set turns = messages %}{%- endif %}
{{- bos_token }}
{%- for message in turns %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('After the system message, roles must alternate: ' + message['role']) }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {%- if loop.last or loop.index0 == turns|length - 2 %}
            {%- if system is defined %}{{- '[INST] ' + system + '\\n\\n' + message['content'] + ' [/INST]' }}
            {%- else %}{{- '[INST] ' + message['content'] + ' [/INST]' }}{%- endif %}
        {%- else %}{{- '[INST] ' ~ message['content'] ~ ' [/INST]' }}{%- endif %}
    {%- else %}{{- ' ' + message['content'] + eos_token }}{%- endif %}
{%- endfor %}
"""

LLADA = """
{%- for message in messages %}
    {%- set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim
        + '<|eot_id|>' %}
    {%- if loop.first %}{% set content = bos_token + content %}{% endif %}
    {{- content }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}
"""

#: A template with the tag, as TRL writes them.
GENERATION = """
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}{% generation %}{{ message.content }}{{ '<|im_end|>' }}{% endgeneration %}
        {{- '\\n' }}
    {%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

#: Puts control tokens before an answer and cuts what is joined, as Nemotron's does.
PREFIXED = """
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == 'assistant' %}
        {%- if '</think>' not in content %}{% set content = '<think></think>' ~ content %}{% endif %}
        {%- if not loop.last %}{% set content = '<think></think>' ~ content.split('</think>')[-1].rstrip() %}{% endif %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' ~ content ~ '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}
"""

CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOOLS = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
HEADERS = ["<|begin_of_text|>", "<|startoftext|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
#: Template, its bos and eos, control tokens, those of them that are not special, kind of tokenizer.
LAYOUTS: dict[str, tuple[str, str, str, list[str], list[str], str]] = {
    "Qwen2.5": (QWEN2, "<|endoftext|>", "<|im_end|>", CHATML, TOOLS[:2], "qwen2"),
    "Qwen3": (QWEN3, "<|endoftext|>", "<|im_end|>", CHATML, TOOLS, "qwen2"),
    "prefixed": (PREFIXED, "<|endoftext|>", "<|im_end|>", CHATML, TOOLS[-2:], "qwen2"),
    "Llama 3": (LLAMA3, "<|begin_of_text|>", "<|eot_id|>", HEADERS, [], "llama3"),
    "Gemma": (GEMMA, "<bos>", "<end_of_turn>", ["<bos>", "<start_of_turn>", "<end_of_turn>"], [], "Gemma"),
    "Mistral": (MISTRAL, "<s>", "</s>", ["[INST]", "[/INST]"], [], "Metaspace first"),
    "LLaDA": (LLADA, "<|startoftext|>", "<|eot_id|>", HEADERS, [], "gpt2"),
    "generation": (GENERATION, "<|endoftext|>", "<|im_end|>", CHATML, [], "qwen2"),
}
FIVE = ("Qwen2.5", "Llama 3", "Gemma", "Mistral", "LLaDA")


def template(name: str, **more: Any) -> ChatTemplate:
    source, bos, eos, *_ = LAYOUTS[name]
    return ChatTemplate(source, {"bos_token": bos, "eos_token": eos}, **more)


@functools.cache
def tokenizer_json(name: str) -> bytes:
    _, bos, eos, special, other, kind = LAYOUTS[name]
    if kind in sentence_tokenizers.FORMS:
        value = sentence_tokenizers.sentence_pieces_json(kind)
    else:
        value = byte_level_tokenizers.train(byte_level_tokenizers.PRE_TOKENIZERS[kind])
    ids = dict(value["model"]["vocab"])
    for token in dict.fromkeys([bos, eos, *special, *other]):
        ids.setdefault(token, len(ids))
        value["added_tokens"].append(sentence_tokenizers.added(token, ids[token], special=token not in other))
    value["added_tokens"].sort(key=lambda token: token["id"])
    return json.dumps(value).encode()


#: What ends an assistant's turn.
END = {
    "Qwen2.5": "<|im_end|>",
    "Llama 3": "<|eot_id|>",
    "Gemma": "<end_of_turn>",
    "Mistral": "</s>",
    "LLaDA": "<|eot_id|>",
}
