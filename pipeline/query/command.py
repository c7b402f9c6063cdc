"""`tokenmill sql`: a SELECT over a published run."""

import sys

import click

# \b keeps click from filling a paragraph
_HELP = """Run QUERY, one SELECT in DuckDB's SQL, over the newest version of the run in folder RUN (RUN@3: version 3).

\b
documents   source, part, row, text, gate, failure, raw_file, url, date, repository, path, licence, …
turns       source, part, row, turn, role, content, start, end, branch, fields, tools, kind, answer, checker: of chat
signals     source, part, row, language, text_bytes, gopher_quality_words, …: every group's signals as columns
decisions   source, part, row, kept, reason, stratum
duplicates  source, part, row, keeper_part, keeper_row, similarity, kind
clusters    source, part, row, cluster_part, cluster_row, cluster_documents
takedown    source, part, row, standing, why, reason, requested
pieces      source, part, row, component, unit, shard, sequence_row, start, tokens: what is packed, and where
shards      source, stratum, component, unit, path, hash, bytes, rows, tokens, documents, …
tasks       step, source, task, key, inputs, outputs, balance, notes (the last four are JSON)

A document is (part, row): views join with USING (source, part, row). Only columns and files that the query needs are
read, and nothing but the run's own. DESCRIBE signals tells a view's columns.
"""


@click.command(help=_HELP, short_help="Ask a run with SQL: documents, signals, decisions, duplicates, shards.")
@click.argument("folder", metavar="RUN")
@click.argument("sql", metavar="QUERY")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--output", metavar="FILE", help="Write FILE.parquet or FILE.csv.")
def sql(folder: str, sql: str, as_json: bool, output: str | None) -> None:
    """See _HELP."""
    from tokenmill.pipeline.query import output as found
    from tokenmill.pipeline.query.run import query
    from tokenmill.pipeline.sheet import people_console
    from tokenmill.pipeline.versions import open_version

    if output is not None:
        found.check_output(output)
    storage, published = open_version(folder)
    with query(storage, published, sql) as reader:
        if output is not None:
            click.echo(f"{found.write_file(reader, output):,} rows in {output}")
        elif as_json:
            found.write_json(reader, sys.stdout)
        elif sys.stdout.isatty():
            found.print_table(reader, people_console())
        else:
            found.write_separated(reader, sys.stdout, "\t")
