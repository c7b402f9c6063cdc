"""Opening a published mixture: find it, check it, compile the plan."""

import json
import re
from typing import Any, Literal, NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from tokenmill.manifests.mixture import FOLDER, Mixture, compile_plan
from tokenmill.pipeline.loader.autoregressive import Autoregressive
from tokenmill.pipeline.loader.batch import NoiseKey, Objective
from tokenmill.pipeline.loader.block import Block
from tokenmill.pipeline.loader.canvas import Canvas
from tokenmill.pipeline.loader.dream import Dream
from tokenmill.pipeline.loader.illada import Illada
from tokenmill.pipeline.loader.llada import Llada
from tokenmill.pipeline.loader.llada_sft import LladaSft
from tokenmill.pipeline.loader.loader import Loader
from tokenmill.pipeline.loader.order import Order
from tokenmill.pipeline.loader.reader import Reader
from tokenmill.pipeline.storage import Storage

_INSIDE = ("batch_offsets", "batch_lengths", "batch_rows", "batch_hashes")
_COLUMNS = ["component", "unit", "path", "rows", "tokens", *_INSIDE]
#: Objectives by name, with their papers' parameters.
OBJECTIVES: dict[str, Objective] = {
    "llada": Llada(),
    "llada_sft": LladaSft(),
    "illada": Illada(),
    "dream": Dream(),
    "block": Block(),
    "canvas": Canvas(),
    "autoregressive": Autoregressive(),
}
ObjectiveName = Literal["llada", "llada_sft", "illada", "dream", "block", "canvas", "autoregressive"]
_RUN_MANIFEST = re.compile(r"manifests/run-(\d{5})\.[0-9a-f]+\.json")


def open_mixture(
    path_or_url: str,
    *,
    batch_size: int,
    objective: ObjectiveName | Objective = "llada",
    seed: int | None = None,
    dp_rank: int = 0,
    dp_size: int = 1,
    mask_token_id: int | None = None,
    masks: Literal["loader", "device"] = "loader",
    total_rows: int | None = None,
    window_bytes: int | None = None,
) -> Loader:
    """A loader over a published mixture.

    Args:
        path_or_url: `<run>/manifests/mixtures/<hash>.json`, or the run's folder for the mixture of its latest manifest.
        batch_size: rows of a global batch, all ranks together.
        objective: a name, or `Llada(…)`, `Block(…)` and so on, with parameters of your own.
        seed: 64-bit seed of the noise; by default the mixture's, which the order always uses.
        dp_rank: this rank, among those that take different rows; it takes rows r, r+R, … of each global batch.
        dp_size: how many those are (R).
        mask_token_id: by default the tokenizer's mask token.
        masks: who draws them; with "device" a batch has all that `torch_masks` needs to draw the same ones there.
        total_rows: length of the plan; by default as long as every component's `max_epochs` allows.
        window_bytes: decoded tokens that the shuffle windows hold; part of the plan. See `compile_plan`.

    Raises:
        ValueError: the arguments don't fit each other or the data; says how.
        FileNotFoundError: no such mixture.
    """
    if dp_size < 1 or not 0 <= dp_rank < dp_size:
        raise ValueError(f"dp_rank {dp_rank} of dp_size {dp_size}: give a rank from 0 to dp_size - 1")
    if batch_size < 1 or batch_size % dp_size:
        near = max(1, batch_size // dp_size) * dp_size
        raise ValueError(
            f"batch_size {batch_size} (all ranks together) does not divide among {dp_size} ranks: give {near} or "
            f"{near + dp_size}"
        )
    params = _objective(objective)
    storage, mixture = _open(path_or_url)
    if mixture.layout not in params.layouts:
        raise ValueError(_other_layout(params, mixture.layout))
    mask_id = mixture.special_ids["mask"] if mask_token_id is None else mask_token_id
    if params.needs_mask and mask_id < 0:
        raise ValueError(
            "the tokenizer has no mask token: pass mask_token_id, such as the first id past the vocabulary"
        )
    noise_seed = mixture.seed if seed is None else seed
    if not 0 <= noise_seed < 1 << 64:
        raise ValueError(f"seed is {noise_seed}: give a 64-bit number, 0 … 2^64-1")
    if masks == "device" and not params.masks_on_device:
        raise ValueError(f"masks='device' is not offered with {params}: its weights need the masks; use masks='loader'")
    noise_key = NoiseKey(
        seed=noise_seed,
        mask_token_id=mask_id if params.needs_mask else -1,
        padding_id=_padding_id(mixture),
        eos_id=mixture.special_ids["eos"],
        vocab_size=mixture.vocab_size,
        on_device=masks == "device",
    )
    if params.needs_eos and noise_key.eos_id < 0:
        raise ValueError(f"{params} fills answers up with the end-of-text token, and the tokenizer has none")
    if isinstance(params, Llada) and params.tail == "drop" and noise_key.padding_id < 0:
        raise ValueError("tail='drop' needs a padding id, and the tokenizer has neither pad nor eos: use 'segment'")
    plan = compile_plan(mixture, total_rows, window_bytes)
    shards = _shard_table(storage, mixture)
    reader = Reader(
        storage,
        shards,
        length=mixture.sequence_length,
        vocab_size=mixture.vocab_size,
        layout=mixture.layout,
        memory_bytes=plan.window_bytes * 5 // 4,  # a quarter for the next windows while the last ones end
    )
    return Loader(
        plan,
        Order(plan, shards),
        reader,
        params,
        noise_key,
        batch_size=batch_size,
        dp_rank=dp_rank,
        dp_size=dp_size,
    )


class OpenedOrder(NamedTuple):
    """A mixture's order without anything to read its rows.

    Attributes:
        storage: the run's root.
        shards: the mixture's shard table.
        order: of its plan.
    """

    storage: Storage
    shards: pa.Table
    order: Order


def open_order(path_or_url: str, *, total_rows: int | None = None, window_bytes: int | None = None) -> OpenedOrder:
    """The order in which `open_mixture` with these arguments takes rows."""
    storage, mixture = _open(path_or_url)
    shards = _shard_table(storage, mixture)
    return OpenedOrder(storage, shards, Order(compile_plan(mixture, total_rows, window_bytes), shards))


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


def _shard_table(storage: Storage, mixture: Mixture) -> pa.Table:
    """The shard table, checked against the mixture's hash of it."""
    data = storage.read(mixture.shard_table_path)
    found = xxhash.xxh3_128_hexdigest(data)
    if found != mixture.shard_table_hash:
        raise ValueError(
            f"shard table {storage.url(mixture.shard_table_path)} hashes to {found}, the mixture says "
            f"{mixture.shard_table_hash}: restore the file, or publish the mixture again"
        )
    return pq.ParquetFile(pa.BufferReader(data)).read(columns=_COLUMNS, use_threads=False)


def _other_layout(params: Objective, layout: str) -> str:
    """What to say of an objective that these shards cannot serve."""
    name, reads = type(params).__name__, " and ".join(map(repr, params.layouts))
    serves = [known for known, objective in OBJECTIVES.items() if layout in objective.layouts]
    return (
        f"objective {name} cannot read rows laid out as {layout!r}; it reads {reads}: "
        f"pack them with `sequences: {{layout: {params.layouts[-1]}}}`, or take one of {', '.join(serves)} on these"
    )


def _padding_id(mixture: Mixture) -> int:
    """Id of padding: the pad token, or the end-of-text token where there is none; else -1."""
    return next((mixture.special_ids[name] for name in ("pad", "eos") if mixture.special_ids[name] >= 0), -1)


def _objective(asked: Any) -> Objective:
    """The objective of a name, or the one given."""
    if isinstance(asked, str) and asked in OBJECTIVES:
        return OBJECTIVES[asked]
    if type(asked) in map(type, OBJECTIVES.values()):
        return cast(Objective, asked)
    raise ValueError(f"no objective {asked!r}: there are {', '.join(map(repr, OBJECTIVES))}")
