"""An export from an object store to one is the export from disk to disk."""

from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.pipeline.export.small_export import exported
from tests.pipeline.runs import tokenmill
from tokenmill.pipeline.storage import Storage

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


def test_from_s3_to_s3(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="tokens")
        for path in Storage(str(small_run)).sizes():
            client.upload_file(str(small_run / path), "tokens", f"run/{path}")
        for kind in ("megatron", "mds"):
            tokenmill("export", "s3://tokens/run", "--format", kind, "--output", f"s3://tokens/{kind}", "--quiet")
            exported(small_run, kind, tmp_path / kind)
            stored = client.list_objects_v2(Bucket="tokens", Prefix=f"{kind}/")["Contents"]
            keys = [item["Key"] for item in stored]
            assert {key: client.get_object(Bucket="tokens", Key=key)["Body"].read() for key in keys} == {
                f"{kind}/{path}": (tmp_path / kind / path).read_bytes()
                for path in Storage(str(tmp_path / kind)).sizes()
            }
    finally:
        server.stop()
