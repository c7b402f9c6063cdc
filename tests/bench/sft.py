"""Conversations to verified shards, ours and `transformers` with `datasets`: `python -m tests.bench.sft [--quick]`.

Synthetic conversations of 2 to 8 turns, 20 to 2,000 characters each (even on a scale of logarithms), stretches of the
main content of English pages in TOKENMILL_REAL_DATA, in JSONL; half of them have a system prompt. Qwen2.5's layout, a
byte-level BPE of 32,768 ids trained on such text. Both sides have two processes and end with files whose rows say
which tokens are answers:

- ours: `tokenmill run` on a million (plan, ingest, exact duplicates, template, ids, packing, publishing), then
  `tokenmill verify`, which reads every byte again;
- the peer: `datasets.load_dataset` of the first 20,000, `map` with `tokenizer.apply_chat_template(…, tokenize=True,
  return_assistant_tokens_mask=True)` and two processes, in batches, and `save_to_disk`; it packs and checks nothing.

Rates are of conversations a second on the clock, everything counted but the making of the data. The peer runs before
and after ours. Ids and masks of the first 10,000 conversations are compared. Last, the peer's conversations are packed
one a row, in rows of 8,192 tokens and again with shorter ones: how much of the rows is padding.
"""

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from datasets import load_from_disk

from tests.bench.shared.figures import Figure, arguments, figures_line
from tests.bench.shared.pages import crawl_pages
from tokenmill.pipeline.checks import receipts_in
from tokenmill.pipeline.language_model import load_language_model
from tokenmill.pipeline.packed import read_batches, shards_of
from tokenmill.pipeline.sheet import published_or_error
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tokens.train import train_tokenizer

VOCABULARY = 32_768
FILES = 16
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message.content + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|mask|>"]
RECIPE = """
name: sft
output: {folder}/out-{name}
part_bytes: 128MiB
tokenizer: {{path: "{folder}/tokenizer.json", append_eos: false}}
template: {{path: "{folder}/template.jinja"}}
sources:
  - {{name: chat, reader: chat, paths: ["{folder}/{name}/*.jsonl"]}}
dedup: {{near: false}}
sequences: {{length: 8192, layout: concat}}
"""
BUCKETS = "[256, 512, 1024, 2048, 4096]"


def main() -> None:
    """Make the data, run both sides in turns, compare, print the figures."""
    quick = arguments(__doc__, "20,000 conversations, and 2,000 of the peer's").parse_args().quick
    count, few, same = (20_000, 2_000, 1_000) if quick else (1_000_000, 20_000, 10_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = _make(folder, count, few)
        rates = [_peer(folder, few)]
        _ours(folder, "few")  # what must be compiled is, as it is for the peer
        seconds = _ours(folder, "all")
        rates.append(_peer(folder, few))
        ours, theirs = count / seconds, statistics.mean(rates)
        print(f"{count:,} conversations, {size / 1e6:,.0f} MB of JSONL: {seconds:.1f} s, {ours:,.0f} a second")
        print(f"transformers and datasets, {few:,} of them: {', '.join(f'{rate:,.0f}' for rate in rates)} a second")
        print(f"the same ids and answers in {_compare(folder, same):,} conversations")
        one_length, several = _padding(folder, ""), _padding(folder, f", buckets: {BUCKETS}")
        print(f"one a row: padding is {one_length:.1f} % of rows of 8,192 tokens, {several:.1f} % with {BUCKETS}")
    figures = [
        Figure("conversations to verified shards", ours, "a second"),
        Figure("times transformers and datasets", ours / theirs, "times", 10),
        Figure("padding of dialogues in rows of one length", one_length, "%"),
        Figure("padding of dialogues in rows of six", several, "%"),
    ]
    print(figures_line("sft", figures))


def _make(folder: Path, count: int, few: int) -> int:
    """Write the conversations, the tokenizer, the template and the recipes; the bytes of the conversations."""
    texts = crawl_pages(250 if count < 100_000 else 1_000_000)
    language = (
        load_language_model("py3langid").languages(pa.array(texts, pa.large_string()), 4096).column(0).to_pylist()
    )
    text = " ".join(page for page, found in zip(texts, language, strict=True) if found == "en").replace("<|", "< |")
    for name in ("all", "few"):
        (folder / name).mkdir()
        (folder / f"{name}.yaml").write_text(RECIPE.format(folder=folder, name=name))
    size, rng = 0, random.Random(7)
    for number in range(FILES):
        lines = [json.dumps({"messages": _turns(rng, text)}, ensure_ascii=False) + "\n" for _ in range(count // FILES)]
        size += (folder / "all" / f"{number:02}.jsonl").write_text("".join(lines))
        if number == 0:
            (folder / "few" / "00.jsonl").write_text("".join(lines[:few]))
    (folder / "tokenizer.json").write_bytes(train_tokenizer([text], VOCABULARY, SPECIAL))
    (folder / "template.jinja").write_text(TEMPLATE)
    os.sync()  # or the disk still writes all this while the first of both sides runs
    return size


def _turns(rng: random.Random, text: str) -> list[dict[str, str]]:
    """A conversation: contents are stretches of the text, their lengths even on a scale of logarithms."""
    roles = ["user", "assistant"] * rng.randint(1, 4)
    turns = [{"role": "system", "content": "Answer briefly, and in plain words."}] if rng.random() < 0.5 else []
    for role in roles:
        begin, size = rng.randrange(len(text) - 2000), int(20 * 100 ** rng.random())
        turns.append({"role": role, "content": text[begin : begin + size].strip() or "Yes."})
    return turns


def _ours(folder: Path, name: str) -> float:
    """Seconds of a run and its verification."""
    tokenmill = str(Path(sys.executable).with_name("tokenmill"))
    started = time.perf_counter()
    for command in (["run", str(folder / f"{name}.yaml"), "--cpus", "2"], ["verify", str(folder / f"out-{name}")]):
        done = subprocess.run([tokenmill, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"tokenmill {' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - started


def _padding(folder: Path, buckets: str) -> float:
    """Percent of the room of all rows that is padding, where each of the peer's conversations has a row."""
    recipe = RECIPE.format(folder=folder, name="few").replace("layout: concat", f"layout: dialogue{buckets}")
    (folder / "few.yaml").write_text(recipe + ("mixture: {batch_size: 64}\n" if buckets else ""))
    _ours(folder, "few")
    sheet = published_or_error(Storage(str(folder / "out-few"))).value["balance"]["chat"]
    tokens = sum(sheet["tokens"].values())
    return 100 * float(sheet["padding_tokens"] / (sheet["padding_tokens"] + tokens))


def _peer(folder: Path, few: int) -> float:
    """Conversations a second of `datasets.map` with a template of `transformers`, in a process of its own."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_CACHE": str(folder / "cache")}
    code = _PEER.format(folder=folder)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return few / float(done.stdout.split()[-1])


_PEER = """
import time
started = time.perf_counter()
from datasets import load_dataset
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_file("{folder}/tokenizer.json"))
tokenizer.chat_template = open("{folder}/template.jinja").read()
imported = time.perf_counter()
def encoded(batch):
    found = tokenizer.apply_chat_template(batch["messages"], return_dict=True, return_assistant_tokens_mask=True)
    return {{"input_ids": found["input_ids"], "assistant_masks": found["assistant_masks"]}}
dataset = load_dataset("json", data_files="{folder}/few/00.jsonl", split="train")
dataset = dataset.map(encoded, batched=True, num_proc=2, remove_columns=["messages"])
dataset.save_to_disk("{folder}/peer")
print(time.perf_counter() - imported)
"""


def _compare(folder: Path, same: int) -> int:
    """Compare ids and answers of the first conversations with the peer's; how many."""
    storage = Storage(str(folder / "out-few"))
    theirs = load_from_disk(str(folder / "peer"))[:same]
    found = 0
    for receipt in receipts_in(storage, published_or_error(storage), "pack"):
        for shard in shards_of(receipt):
            for batch in read_batches(storage, shard):
                for row in batch.to_pylist():
                    marks = [index % 2 for index, run in enumerate(row["maskable"]) for _ in range(run)]
                    at = 0
                    for number, size in zip(row["document_rows"], row["document_lengths"], strict=True):
                        if number < same:
                            mine = (row["tokens"][at : at + size], marks[at : at + size])
                            assert mine == (theirs["input_ids"][number], theirs["assistant_masks"][number]), number
                            found += 1
                        at += size
    return found


if __name__ == "__main__":
    main()
