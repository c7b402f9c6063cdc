"""Finding published mixtures, by path or folder, of a run or of a mix; each is checked against its name."""

import json
import re
from collections.abc import Sequence

import pyarrow as pa
import xxhash

from tokenmill.manifests.mix import FOLDER as MIXES
from tokenmill.manifests.mix import Mix
from tokenmill.manifests.mixture import FOLDER, Mixture
from tokenmill.pipeline.loader.compiled import open_table
from tokenmill.pipeline.loader.stages import Opened, Stage
from tokenmill.pipeline.storage import Storage

_HASH = re.compile("[0-9a-f]{32}")
_RUN_MANIFEST = re.compile(r"manifests/run-(\d{5})\.[0-9a-f]+\.json")


def latest_mixture(storage: Storage) -> str:
    """Path, under the run's root, of the mixture that the run's latest manifest names.

    Run manifests are `manifests/run-<five digits>.<hash>.json`; the greatest number is the latest.
    """
    found = [match for path in storage.sizes("manifests") if (match := _RUN_MANIFEST.fullmatch(path))]
    if not found:
        raise FileNotFoundError(
            f"no run manifest (manifests/run-00000.<hash>.json) in {storage.root}: is the run finished?"
        )
    number = max(match[1] for match in found)
    latest = [match[0] for match in found if match[1] == number]
    if len(latest) > 1:
        raise ValueError(
            f"{storage.root} has two manifests numbered {number}, {' and '.join(latest)}: name the mixture"
        )
    mixture = json.loads(storage.read(latest[0])).get("mixture")
    if not isinstance(mixture, str):
        raise ValueError(
            f"{storage.url(latest[0])} names no mixture: nothing was kept for training; `tokenmill audit` says why"
        )
    return mixture


def read_mixture(storage: Storage, path: str) -> Mixture:
    """The mixture at `path` under the run's root, checked against its name."""
    text = storage.read(path)
    found_hash = xxhash.xxh3_128_hexdigest(text)
    if path != f"{FOLDER}/{found_hash}.json":
        raise ValueError(
            f"{storage.url(path)} hashes to {found_hash}, not to its name: it was changed; publish it again"
        )
    return Mixture.from_json(text)


def read_mix(storage: Storage, path: str) -> Mix:
    """The mix at `path` under its root, checked against its name."""
    text = storage.read(path)
    mix = Mix.from_json(text)
    if path != mix.path or text != mix.to_json().encode():
        raise ValueError(f"{storage.url(path)} was changed: its content no longer has the hash in its name; mix again")
    return mix


def find_mix(path_or_url: str) -> tuple[Storage, str] | None:
    """The root and path of the mix that is meant: by its file, or by its folder if that has one and no run; else None.

    Raises:
        ValueError: the folder has several.
    """
    if path_or_url.endswith(".json"):
        root, found, name = path_or_url.rpartition(f"{MIXES}/")
        return (Storage(root or "."), f"{MIXES}/{name}") if found else None
    storage = Storage(path_or_url)
    listed = storage.sizes("manifests")
    mixes = [path for path in listed if path.startswith(f"{MIXES}/")]
    if not mixes or any(map(_RUN_MANIFEST.fullmatch, listed)):
        return None
    if len(mixes) > 1:
        raise ValueError(f"{storage.root} has {len(mixes)} mixes, open one of: {', '.join(map(storage.url, mixes))}")
    return storage, mixes[0]


def listed_stages(asked: Sequence[Stage], split: str) -> list[Stage]:
    """The stages, those of mixes in their places.

    Raises:
        ValueError: a mix was changed, or what is asked of it has no meaning for its stages.
    """
    found: list[Stage] = []
    for stage in asked:
        place = find_mix(stage.path_or_url)
        found += [stage] if place is None else _of_mix(stage, *place, split)
    return found


def _of_mix(stage: Stage, storage: Storage, path: str, split: str) -> list[Stage]:
    """The stages of a mix that stands for one."""
    mix = read_mix(storage, path)
    urls = [storage.url(one.mixture) for one in mix.stages]
    if split == "validation":
        if len({read_mixture(storage, one.mixture).shard_table_hash for one in mix.stages}) > 1:
            raise ValueError(
                f"the stages of {storage.url(path)} hold out rows of several packings: open the one that is meant, of "
                f"{', '.join(urls)}"
            )
        return [Stage(urls[0], stage.rows)]
    if stage.rows is not None and len(urls) > 1:
        raise ValueError(f"{storage.url(path)} has {len(urls)} stages, each with rows of its own: give it no number")
    rows = [one.rows if stage.rows is None else stage.rows for one in mix.stages]
    starts = [stage.at, *[None] * (len(urls) - 1)]
    return [Stage(*one) for one in zip(urls, rows, starts, strict=True)]


def open_stages(stages: Sequence[Stage], tables_dir: str | None) -> list[Opened]:
    """The stages' mixtures and shard tables, each table read once."""
    found: list[Opened] = []
    tables: dict[str, pa.Table] = {}
    for stage in stages:
        storage, mixture = _open(stage.path_or_url)
        if mixture.shard_table_hash not in tables:
            tables[mixture.shard_table_hash] = open_table(storage, mixture, tables_dir)
        found.append(Opened(storage, mixture, tables[mixture.shard_table_hash]))
    return found


def check_tokenizer(opened: Opened, wanted: str | None) -> None:
    """Refuse a run of another tokenizer than the trainer's, which is given by its hash or its file's path."""
    if wanted is None:
        return
    if not _HASH.fullmatch(wanted):
        folder, slash, name = wanted.rpartition("/")
        wanted = xxhash.xxh3_128_hexdigest(Storage(folder + slash or ".").read(name))
    found = opened.mixture.tokenizer_hash
    if wanted != found:
        raise ValueError(
            f"the trainer's tokenizer hashes to {wanted}, that of {opened.storage.url(opened.mixture.path)} to {found} "
            f"({opened.storage.url(opened.mixture.tokenizer_path)}): train with that file, or pack the run with yours"
        )


def _open(path_or_url: str) -> tuple[Storage, Mixture]:
    """The run's root and the mixture that a path names, checked against its name."""
    if path_or_url.endswith(".json"):
        root, found, name = path_or_url.rpartition(f"{FOLDER}/")
        if not found:
            raise ValueError(f"{path_or_url} is not a run's {FOLDER}/<hash>.json: give that path, or the run's folder")
        storage = Storage(root or ".")
        path = FOLDER + "/" + name
    else:
        storage = Storage(path_or_url)
        path = latest_mixture(storage)
    return storage, read_mixture(storage, path)
