"""Where runs lie, told from a mixture's root and found from there again."""

import os

import pytest

from tokenmill.pipeline.loader.roots import RunRoots, place_of, root_at
from tokenmill.pipeline.storage import Storage


@pytest.mark.parametrize(
    ("run", "root", "place"),
    [
        ("/data/runs/web", "/data/mix", "../runs/web"),
        ("/data/web", "/data/web/mix", ".."),
        ("/data/web", "/srv/mix", "/data/web"),
        ("s3://bucket/runs/web", "s3://bucket/mixes/one", "../../runs/web"),
        ("s3://bucket/web", "s3://bucket/mix", "../web"),
        ("s3://bucket/web", "s3://other/mix", "s3://bucket/web"),
        ("s3://bucket/web", "/data/mix", "s3://bucket/web"),
        ("/data/web", "s3://bucket/mix", "/data/web"),
        ("s3://bucket", "s3://bucket/mix", ".."),
        ("file:///data/web", "file:///data/mix", "../web"),
        ("memory://web", "memory://mix", "memory://web"),
    ],
)
def test_places(run: str, root: str, place: str):
    assert place_of(run, root) == place
    assert root_at(place, root).rstrip("/") == run


def test_folders_of_this_machine_are_taken_from_where_we_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert place_of("out/web", "out/mix") == place_of(f"{tmp_path}/out/web", "out/mix") == "../web"
    assert root_at("../web", "out/mix") == "out/web"
    assert os.path.abspath(root_at("../web", f"{tmp_path}/out/mix")) == f"{tmp_path}/out/web"


def test_reading_from_several(tmp_path):
    storages = [Storage(str(tmp_path / name)) for name in ("one", "two")]
    for number, storage in enumerate(storages):
        storage.write("a/b", f"in {number}".encode())
    roots = RunRoots(storages)
    assert roots.read_range("1/a/b", 1, 3) == b"n 1"
    assert roots.url("0/a/b") == f"{tmp_path}/one/a/b"
    assert roots.at("1/a/b") == (storages[1], "a/b")
    assert roots.is_local
    assert not RunRoots([storages[0], Storage("memory://two")]).is_local
    with pytest.raises(FileNotFoundError, match="two/a/c"):
        roots.read_range("1/a/c", 0, 1)
