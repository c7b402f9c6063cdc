"""`tokenmill export`: a published run in the files of another trainer."""

from typing import Any

import click

from tokenmill.pipeline.executor_options import executor_options
from tokenmill.pipeline.export.formats import FORMATS
from tokenmill.pipeline.storage import Storage


def _size(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """A size such as 64MiB, in bytes."""
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        size = None if text is None else int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise click.BadParameter(f"{text!r} is no size; give one such as 64MiB") from None
    if size is not None and size < 1:
        raise click.BadParameter(f"{text!r} is no room for a row; give a size such as 64MiB")
    return size


# \b keeps click from filling a paragraph
_HELP = """Write the newest version of the run in folder RUN as files that another trainer reads.

\b
megatron  Megatron-LM: .bin and .idx a unit, whole documents, no padding; blend.txt for --data-args-path
smdm      TinyLlama, SMDM: SPLIT_0000000000.bin, …, chunks of whole rows
datasets  mdlm, bd3lms: load_from_disk(DIR) has input_ids and attention_mask, a row of L tokens each
mds       MosaicML streaming: index.json and shards, tokens and valid (how many are not padding) a row

\b
Of conversations (`layout: concat` or `dialogue`), one a line or row, a file a unit:
dfactory         dFactory, conversation: SPLIT/*.jsonl, messages
dfactory-tokens  dFactory, tokenid: SPLIT/*.jsonl, input_ids filled up to L, and prompt_lengths
dream            Dream: SPLIT/*.parquet, prompt (messages) and response
dllm             dllm: load_from_disk(DIR)[SPLIT], input_ids, labels (-100), attention_mask, prompt_len
automodel        NeMo Automodel: load_from_disk(DIR), input_ids, loss_mask, attention_mask

Rows come once, in stored order: by source, stratum and unit, as a seed permuted them in each. With --rows K they
are the first K of the order in which `open_mixture` takes them, by the mixture's weights. Every record batch is
checked against its hash. The same run gives the same bytes; export.json, written last, says what they are, and
the same command again writes nothing, or makes anew what was interrupted.
"""


@click.command(help=_HELP, short_help="Write a run in the files that another trainer reads.")
@click.argument("folder", metavar="RUN")
@click.option("--format", "kind", type=click.Choice(FORMATS), required=True, help="See above.")
@click.option("--output", required=True, metavar="DIR", help="Folder or URL to write to: empty, or this very export.")
@click.option("--source", "sources", metavar="NAME", multiple=True, help="Only this; may be repeated.  [default: all]")
@click.option("--split", type=click.Choice(["train", "validation"]), default="train", show_default=True)
@click.option("--length", type=click.IntRange(1), metavar="L", help="Of rows of several lengths (`buckets`), these.")
@click.option("--rows", type=click.IntRange(1), metavar="K", help="The mixture's first K rows.  [default: all, once]")
@click.option("--file-bytes", callback=_size, metavar="SIZE", help="Token ids a file holds, at most.  [default: 64MiB]")
@executor_options
def export(
    folder: str,
    kind: Any,
    output: str,
    sources: tuple[str, ...],
    split: str,
    length: int | None,
    rows: int | None,
    file_bytes: int | None,
    executor: str,
    address: str | None,
    cpus: int | None,
    quiet: bool,
) -> None:
    """Write the newest version of a run as files that another trainer reads."""
    from tokenmill.pipeline.export.selection import select_shards
    from tokenmill.pipeline.export.writing import export as write_export
    from tokenmill.pipeline.scan import opening

    selection = select_shards(Storage(folder), sources, split, length)
    done = write_export(
        selection, kind, Storage(output), opening(executor, address, cpus, quiet), num_rows=rows, file_bytes=file_bytes
    )
    left = ", ".join(f"{count:,} for {reason}" for reason, count in done.get("left_out", {}).items())
    click.echo(
        f"{done['rows']:,} rows, {done['documents']:,} documents, {done['tokens']:,} tokens in {len(done['files'])} "
        f"files, {done['bytes']:,} bytes{f'; left out: {left}' if left else ''}\n"
        f"exported {folder}/{done['version']} to {output}"
    )
