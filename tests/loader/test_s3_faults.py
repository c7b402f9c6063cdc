"""A store that is slow, refuses, hangs up or sends too little: the same batches, or an error that says so."""

import os
import signal
from collections.abc import Callable, Iterator

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from tests.loader.faulty_s3 import FaultyS3
from tests.loader.row_digests import row_digests
from tests.loader.small_run import Run, Stored, write_run
from tokenmill.pipeline import retries
from tokenmill.pipeline.loader import open_mixture
from tokenmill.pipeline.storage import Storage

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "1",  # of botocore itself, which pauses for seconds
}
BATCHES = 7


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, str]]:
    """A run, and the "host:port" of an S3 server that has it at s3://tokens/run."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        place = "{}:{}".format(*server.get_host_and_port())
        run = write_run(
            tmp_path_factory.mktemp("s3") / "run",
            [Stored("a/train", 1.0, [[[3, 3, 2], [4]], [[3, 3, 1]]])],
            length=16,
            vocab_size=50,
        )
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{place}",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        client.create_bucket(Bucket="tokens")
        for path in Storage(str(run.root)).sizes():
            client.upload_file(str(run.root / path), "tokens", f"run/{path}")
        yield run, place
    finally:
        server.stop()


@pytest.fixture
def faulty(stored: tuple[Run, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """The proxy, with no fault yet, that the environment names."""
    proxy = FaultyS3(stored[1], lambda *_: None)
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": proxy.url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(retries, "FIRST_PAUSE_SECONDS", 0.002)
    s3fs.S3FileSystem.clear_instance_cache()
    yield proxy
    s3fs.S3FileSystem.clear_instance_cache()
    proxy.stop()


def of_shards(fault: str, times: int) -> Callable[[str, int], str | None]:
    """The fault, at each shard's first range reads."""
    return lambda path, count: fault if path.endswith(".arrow") and count <= times else None


def test_without_a_fault_each_record_batch_is_one_request(stored, faulty):
    run, _ = stored
    local = row_digests(open_mixture(run.path, batch_size=2))
    assert row_digests(open_mixture("s3://tokens/run", batch_size=2)) == local
    assert sum(count for path, count in faulty.counts.items() if path.endswith(".arrow")) == BATCHES


@pytest.mark.parametrize(
    ("fault", "times"), [("slow", 1), ("500", 3), ("503", 2), ("drop", 2), ("drop", 6), ("cut", 2), ("short", 3)]
)
def test_faults_that_pass_change_nothing(stored, faulty, fault, times):
    run, _ = stored
    whole = row_digests(open_mixture(run.path, batch_size=2))
    faulty.fault = of_shards(fault, times)
    loader = open_mixture("s3://tokens/run", batch_size=2, on_corrupt="skip_and_report")
    batches = list(loader)
    assert row_digests(batches) == whole
    assert batches[-1].state["skipped_batches"] == []
    more = 0 if fault == "slow" else times * 3
    assert sum(count for path, count in faulty.counts.items() if path.endswith(".arrow")) == BATCHES + more


@pytest.mark.parametrize(("fault", "cause"), [("500", "OSError: .*made"), ("short", r"ShortAnswerError: \d+ bytes")])
@pytest.mark.parametrize("on_corrupt", ["raise", "skip_and_report"])
def test_faults_that_stay_are_named_and_never_skipped(faulty, fault, cause, on_corrupt):
    faulty.fault = of_shards(fault, 10**9)
    expected = (
        rf"reading bytes \d+ … \d+ of s3://tokens/run/sequences/.*arrow failed 5 times, the last time with {cause}"
    )
    with pytest.raises(OSError, match=expected):
        list(open_mixture("s3://tokens/run", batch_size=2, on_corrupt=on_corrupt))
    tries = [count for path, count in faulty.counts.items() if path.endswith(".arrow")]
    assert max(tries) >= retries.TRIES


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("404", FileNotFoundError, "^no such file: s3://tokens/run/sequences/.*arrow$"),
        ("403", PermissionError, "of s3://tokens/run/sequences/.*arrow is not allowed .*check the credentials"),
    ],
)
def test_what_will_not_pass_fails_at_once(faulty, fault, error, message):
    faulty.fault = of_shards(fault, 10**9)
    with pytest.raises(error, match=message):
        list(open_mixture("s3://tokens/run", batch_size=2))
    counts = [count for path, count in faulty.counts.items() if path.endswith(".arrow")]
    assert sum(counts) <= BATCHES


def test_a_range_behind_the_end_is_empty_and_one_over_it_is_cut(stored, faulty):
    path = stored[0].shards["path"].to_pylist()[0]
    for root in (str(stored[0].root), "s3://tokens/run"):
        storage = Storage(root)
        size = storage.sizes()[path]
        assert storage.read_range(path, size + 5, 10) == b""
        assert len(storage.read_range(path, size - 3, 10)) == 3


def test_the_cache_spares_the_store(stored, faulty, tmp_path):
    run, _ = stored
    whole = row_digests(open_mixture(run.path, batch_size=2))
    for _ in range(2):
        assert row_digests(open_mixture("s3://tokens/run", batch_size=2, cache_dir=str(tmp_path / "cache"))) == whole
    assert sum(count for path, count in faulty.counts.items() if path.endswith(".arrow")) == BATCHES


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_reads_with_connections_of_its_own(stored, faulty, tmp_path):
    """As the workers of torch's DataLoader are made; this process has read a part already."""
    loader = open_mixture("s3://tokens/run", batch_size=2)
    iterator = iter(loader)
    first = next(iterator)
    answer = tmp_path / "answer"
    child = os.fork()
    if child == 0:
        status = 1
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(120)  # it ends, whatever it waits for
        try:
            answer.write_text(repr(row_digests(loader)))
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    rest = row_digests(iterator)
    assert answer.read_text() == repr(rest)
    assert row_digests([first]) | rest == row_digests(open_mixture(stored[0].path, batch_size=2))
