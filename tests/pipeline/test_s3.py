"""Input and output both on an object store, by configuration alone."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from tests.pipeline.corpus import RECIPE, fingerprint, write_corpus, write_texts
from tests.pipeline.runs import run_inline, tokenmill
from tests.pipeline.test_earlier_runs import first_texts, second_texts, write_recipe
from tokenmill.pipeline.storage import Storage

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture
def endpoint() -> Iterator[str]:
    """A running S3 server on loopback, with an empty bucket `tokens`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    try:
        yield url
    finally:
        server.stop()


@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_a_run_from_s3_to_s3(endpoint: str, tmp_path: Path, executor: str):
    corpus = write_corpus(tmp_path / "corpus", 10)
    env = {**ENVIRONMENT, "AWS_ENDPOINT_URL": endpoint}
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    client.create_bucket(Bucket="tokens")
    for path in sorted(corpus.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), "tokens", f"raw/{path.relative_to(corpus)}")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("{folder}", "s3://tokens/raw"))
    output = "s3://tokens/out"
    tokenmill("run", str(recipe), "--output", output, "--executor", executor, "--cpus", "2", "--quiet", env=env)
    assert "recounted: every number" in tokenmill("audit", output, "--recount", env=env)
    assert "0 not as" in tokenmill("verify", output, env=env)
    if executor == "inline":
        sql = "SELECT count(*), sum(tokens) FROM documents JOIN pieces USING (part, row) JOIN signals USING (part, row)"
        pieces, tokens = tokenmill("sql", output, sql, env=env).split("\n")[1].split("\t")
        assert int(tokens) > int(pieces) > 10
        assert "  │ <!doctype html>" in tokenmill("where", output, "http://a.example/1", "--raw", env=env)
    assert tokenmill("trace", output, "--row", "0", "--text", env=env).startswith("row 0: component ")
    opened = (
        "from tokenmill.pipeline.loader import open_mixture\n"
        f"batch = next(iter(open_mixture({output!r}, batch_size=4)))\n"
        "print(batch.clean.shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", opened], env={**os.environ, **env}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "(4, 64)"
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="tokens", Prefix="out/")
    stored = {item["Key"].removeprefix("out/") for page in pages for item in page["Contents"]}
    data = {path.split(".")[0] for path in stored if path.startswith(("documents", "signals", "sequences"))}

    local = tmp_path / "local"
    run_inline(_local(recipe, corpus), local)
    assert data == {p.split(".")[0] for p in fingerprint(local) if p.startswith(("documents", "signals", "sequences"))}


def test_an_earlier_run_on_s3(endpoint: str, tmp_path: Path):
    """It is read where it lies, and gives the ledger that a copy of it on disk gives."""
    env = {**ENVIRONMENT, "AWS_ENDPOINT_URL": endpoint}
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    client.create_bucket(Bucket="tokens")
    for name, files in (("first", first_texts()), ("second", second_texts())):
        for number, texts in enumerate(files):
            write_texts(tmp_path / name / f"{name}{number}.jsonl", texts)
    earlier = tmp_path / "earlier"
    run_inline(write_recipe(tmp_path / "first", "verify: text"), earlier)
    for path in Storage(str(earlier)).sizes():
        client.upload_file(str(earlier / path), "tokens", f"earlier/{path}")
    ledgers = []
    for name, place in (("disk", str(earlier)), ("s3", "s3://tokens/earlier")):
        recipe = write_recipe(tmp_path / "second", f"verify: text, against: ['{place}']")
        tokenmill("run", str(recipe), "--output", str(tmp_path / name), "--executor", "inline", "--quiet", env=env)
        rows = [row for path in (tmp_path / name).glob("ledger/*") for row in pq.read_table(path).to_pylist()]
        assert {row["keeper_run"] for row in rows} == {None, place}
        ledgers.append(sorted(({**row, "keeper_run": row["keeper_run"] == place} for row in rows), key=str))
    assert ledgers[0] == ledgers[1]


def _local(recipe: Path, corpus: Path) -> Path:
    path = recipe.with_name("local.yaml")
    path.write_text(recipe.read_text().replace("s3://tokens/raw", str(corpus)))
    return path
