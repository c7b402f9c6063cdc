"""Opening published mixtures: what is asked for is checked, the plan compiled, the loader made."""

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, cast

from tokenmill.manifests.mixture import Mixture
from tokenmill.manifests.plan import Plan
from tokenmill.manifests.validation import validation_plan
from tokenmill.pipeline.loader.autoregressive import Autoregressive
from tokenmill.pipeline.loader.batch import NoiseKey, Objective
from tokenmill.pipeline.loader.block import Block
from tokenmill.pipeline.loader.cache import DEFAULT_BYTES, BatchCache
from tokenmill.pipeline.loader.canvas import Canvas
from tokenmill.pipeline.loader.dream import Dream
from tokenmill.pipeline.loader.illada import Illada
from tokenmill.pipeline.loader.llada import Llada
from tokenmill.pipeline.loader.llada_sft import LladaSft
from tokenmill.pipeline.loader.loader import DEFAULT_PREFETCH, Loader
from tokenmill.pipeline.loader.order import Order
from tokenmill.pipeline.loader.preference import Preference
from tokenmill.pipeline.loader.prompts import Prompts
from tokenmill.pipeline.loader.published import check_tokenizer, listed_stages, open_stages
from tokenmill.pipeline.loader.reader import Reader
from tokenmill.pipeline.loader.share import Share
from tokenmill.pipeline.loader.stages import Opened, Stage, check_batch_size, plan_of
from tokenmill.pipeline.loader.stock import packed_rows
from tokenmill.pipeline.loader.stored_order import StoredOrder

#: Objectives by name, with their papers' parameters.
OBJECTIVES: dict[str, Objective] = {
    "llada": Llada(),
    "llada_sft": LladaSft(),
    "illada": Illada(),
    "dream": Dream(),
    "block": Block(),
    "canvas": Canvas(),
    "autoregressive": Autoregressive(),
    "preference": Preference(),
    "prompts": Prompts(),
}
ObjectiveName = Literal[
    "llada", "llada_sft", "illada", "dream", "block", "canvas", "autoregressive", "preference", "prompts"
]


def open_mixture(
    path_or_url: str | Sequence[Stage],
    *,
    batch_size: int,
    micro_batch_size: int | None = None,
    objective: ObjectiveName | Objective = "llada",
    seed: int | None = None,
    dp_rank: int = 0,
    dp_size: int = 1,
    mask_token_id: int | None = None,
    masks: Literal["loader", "device"] = "loader",
    total_rows: int | None = None,
    window_bytes: int | None = None,
    split: Literal["train", "validation"] = "train",
    repeats: Collection[str] = (),
    tokenizer_hash: str | None = None,
    tables_dir: str | None = None,
    on_corrupt: Literal["raise", "skip_and_report"] = "raise",
    cache_dir: str | None = None,
    cache_bytes: int = DEFAULT_BYTES,
    prefetch_batches: int = DEFAULT_PREFETCH,
) -> Loader:
    """A loader over a published mixture, or over several, one stage after another.

    A component that two stages share goes on where the earlier one left it, if it is the same packed rows. To change
    the rest of a run, add a stage to its list with the row it begins at (`at`): states of the shorter list are taken
    up to that row.

    Args:
        path_or_url: `<run>/manifests/mixtures/<hash>.json`, or the run's folder for the mixture of its latest manifest;
            what `tokenmill mix` made, by the path that it printed, or its folder if that holds one; or stages, each of
            which begins on a global batch.
        batch_size: rows of a global batch, all ranks together; of rows of several lengths a divisor of the mixture's.
        micro_batch_size: rows of a rank that one batch handed out has, `batch_size / dp_size / micro_batch_size` of
            them a step; by default all its rows of a global batch. Which row is whose stays what it was. The last
            one's state is of the next step.
        objective: a name, or `Llada(…)`, `Block(…)` and so on, with parameters of your own.
        seed: 64-bit seed of the noise; by default the first mixture's, which the order always uses.
        dp_rank: this rank, among those that take different rows; it takes rows r, r+R, … of each global batch.
        dp_size: how many those are (R).
        mask_token_id: by default the tokenizer's mask token.
        masks: who draws them; with "device" a batch has all that `torch_masks` needs to draw the same ones there.
        total_rows: length of the plan; by default as long as every component's `max_epochs` allows, or what the mix
            says. Not with stages.
        window_bytes: decoded tokens that the shuffle windows hold; part of the plan. See `compile_plan`.
        split: "validation" for the rows that were held out before packing: once, in stored order, with the same noise
            every time; the last global batch, of each length, is filled with rows of padding, numbered -1.
        repeats: sources whose documents may come in two packings, as with a longer L in a later stage; each packing
            counts its rows and epochs alone.
        tokenizer_hash: of the trainer's tokenizer, or the path of its tokenizer.json: another one is refused.
        tables_dir: local folder for shard tables in a form that opens at once, made there by the first that opens one;
            for runs of millions of record batches. By default they are read into memory each time.
        on_corrupt: a record batch whose bytes are not what the shard table says, or missing, is an error ("raise"), or
            its rows become padding from then on, which is logged and kept in the state ("skip_and_report").
        cache_dir: folder on this node's disk that keeps record batches for all its ranks and jobs; None: none is kept.
        cache_bytes: limit on what the folder holds.
        prefetch_batches: global batches whose record batches are read before they are wanted.

    Raises:
        ValueError: the arguments don't fit each other or the data; says how.
        FileNotFoundError: no such mixture.
    """
    reopen = partial(open_mixture, **locals())
    share = Share.of(batch_size, micro_batch_size, dp_rank, dp_size)
    if on_corrupt not in ("raise", "skip_and_report"):
        raise ValueError(f"on_corrupt is {on_corrupt!r}: give 'raise' or 'skip_and_report'")
    if prefetch_batches < 1:
        raise ValueError(f"prefetch_batches is {prefetch_batches}: give at least 1")
    params = _objective(objective)
    asked = [Stage(path_or_url, total_rows)] if isinstance(path_or_url, str) else path_or_url
    stages = listed_stages(asked, split)
    _check_split(stages, split, total_rows, window_bytes)
    opened = open_stages(stages, tables_dir)
    for one in opened:
        if one.mixture.layout not in params.layouts:
            raise ValueError(_other_layout(params, one.mixture.layout))
        check_tokenizer(one, tokenizer_hash)
    noise_key = _noise_key(params, opened[0].mixture, seed, mask_token_id, masks == "device")
    order = _order(stages, opened, split, window_bytes, repeats)
    plan = order.plan
    if isinstance(params, Block):
        for stage in plan.stages:  # before training, not at the first batch of a length that comes late
            params.check_length(stage.mixture.sequence_length)
    if plan.stored:
        share = share.up_to(tuple(stage.end_row for stage in plan.stages))
    else:
        check_batch_size(plan, batch_size)
    readers = _readers(
        plan,
        opened,
        cache=BatchCache(cache_dir, cache_bytes) if cache_dir is not None else None,
        skip_corrupt=on_corrupt == "skip_and_report",
        padding_id=noise_key.filler,
    )
    return Loader(
        plan,
        order,
        readers,
        params,
        noise_key,
        share=share,
        reopen=reopen,
        prefetch_batches=prefetch_batches,
    )


def _check_split(stages: Sequence[Stage], split: str, total_rows: int | None, window_bytes: int | None) -> None:
    """Refuse stages that are none, and what has no meaning for several, or for rows in stored order."""
    if not stages:
        raise ValueError("no stage is given: a plan needs at least one")
    if split not in ("train", "validation"):
        raise ValueError(f"split is {split!r}: give 'train' or 'validation'")
    if len(stages) > 1 and (total_rows is not None or split != "train"):
        raise ValueError(f"total_rows and split={split!r} are for one mixture: give each stage its rows")
    if split == "validation" and (stages[0].rows is not None or window_bytes is not None):
        raise ValueError("the validation split is taken whole and in stored order: leave out total_rows, window_bytes")


def _noise_key(
    params: Objective, mixture: Mixture, seed: int | None, mask_token_id: int | None, on_device: bool
) -> NoiseKey:
    """What noise hangs on, of all stages: they have one tokenizer."""
    mask_id = mixture.special_ids["mask"] if mask_token_id is None else mask_token_id
    if params.needs_mask and mask_id < 0:
        raise ValueError(
            "the tokenizer has no mask token: pass mask_token_id, such as the first id past the vocabulary"
        )
    noise_seed = mixture.seed if seed is None else seed
    if not 0 <= noise_seed < 1 << 64:
        raise ValueError(f"seed is {noise_seed}: give a 64-bit number, 0 … 2^64-1")
    if on_device and not params.masks_on_device:
        raise ValueError(f"masks='device' is not offered with {params}: its weights need the masks; use masks='loader'")
    noise_key = NoiseKey(
        seed=noise_seed,
        mask_token_id=mask_id if params.needs_mask else -1,
        padding_id=_padding_id(mixture),
        eos_id=mixture.special_ids["eos"],
        vocab_size=mixture.vocab_size,
        on_device=on_device,
    )
    if params.needs_eos and noise_key.eos_id < 0:
        raise ValueError(f"{params} fills answers up with the end-of-text token, and the tokenizer has none")
    if isinstance(params, Llada) and params.tail == "drop" and noise_key.padding_id < 0:
        raise ValueError("tail='drop' needs a padding id, and the tokenizer has neither pad nor eos: use 'segment'")
    return noise_key


def _readers(plan: Plan, opened: Sequence[Opened], **settings: Any) -> list[Reader]:
    """A reader for each of the plan's stages; those of one shard table and length share it, and what it holds."""
    readers: dict[tuple[str, str, int], Reader] = {}
    keys = []
    for stage in plan.stages:
        mixture = stage.mixture
        keys.append((opened[stage.index].storage.root, mixture.shard_table_hash, mixture.sequence_length))
    found = []
    for stage, key in zip(plan.stages, keys, strict=True):
        one = opened[stage.index]
        if key not in readers:
            # A quarter for the next windows while the last ones end; behind another stage, that one's end, too.
            window_bytes = [other.window_bytes for other, its in zip(plan.stages, keys, strict=True) if its == key]
            quarters = 5 if len(window_bytes) == 1 else 9
            readers[key] = Reader(
                one.roots,
                one.shards,
                length=stage.mixture.sequence_length,
                vocab_size=one.mixture.vocab_size,
                layout=one.mixture.layout,
                align=one.mixture.sequence_align,
                **settings,
                memory_bytes=max(window_bytes) * quarters // 4,
            )
        found.append(readers[key])
    return found


class OpenedOrder(NamedTuple):
    """A mixture's order without anything to read its rows.

    Attributes:
        stages: mixtures and shard tables, by the `index` of a plan's stage.
        order: of their plan.
    """

    stages: Sequence[Opened]
    order: Order | StoredOrder


def open_order(
    path_or_url: str, *, total_rows: int | None = None, window_bytes: int | None = None, split: str = "train"
) -> OpenedOrder:
    """The order in which `open_mixture` with these arguments takes rows."""
    stages = listed_stages([Stage(path_or_url, total_rows)], split)
    opened = open_stages(stages, None)
    return OpenedOrder(opened, _order(stages, opened, split, window_bytes, ()))


def _order(
    stages: Sequence[Stage], opened: Sequence[Opened], split: str, window_bytes: int | None, repeats: Collection[str]
) -> Order | StoredOrder:
    """The order of a split, with its plan compiled."""
    if split == "validation":
        plan = validation_plan(opened[0].mixture, packed_rows(opened[0].shards))
        return StoredOrder(plan, opened[0].shards)
    if split != "train":
        raise ValueError(f"split is {split!r}: give 'train' or 'validation'")
    plan = plan_of(stages, opened, window_bytes, repeats)
    return Order(plan, [opened[stage.index].shards for stage in plan.stages])


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
