"""publish: receipts → shard table, mixture manifest, balance sheet and the run's manifest. The last thing written.

A version of a run is `manifests/run-NNNNN.<hash>.json`. It names everything it is made of by hash; nothing it names
is ever overwritten. Publishing the same content again adds no version.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

import tokenmill
from tokenmill.manifests.audit import balance_sheet, shards_of, strata_tokens
from tokenmill.manifests.lengths import without_length
from tokenmill.manifests.mixture import Component, Mixture
from tokenmill.manifests.plan import compile_plan
from tokenmill.manifests.planned import rows_of_tokens
from tokenmill.manifests.receipts import Output, Receipt, canonical_json, hash_json, library_versions, receipt_table
from tokenmill.manifests.shards import BATCH_COLUMNS, shard_table
from tokenmill.pipeline.copies import MARK, copies_names
from tokenmill.pipeline.plan import Part, plan_table
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.recipe.file import RecipeError
from tokenmill.pipeline.recipe.mixture import claim_of
from tokenmill.pipeline.removals import request_paths
from tokenmill.pipeline.steps.pack import token_policy
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import write_table
from tokenmill.pipeline.tokens.encode import Encoder

FORMAT = "tokenmill-run/1"
_NAME = re.compile(r"manifests/run-(?P<number>\d{5})\.(?P<hash>[0-9a-f]{32})\.json")


@dataclass(frozen=True)
class Published:
    """A version of a run.

    Attributes:
        path: of its manifest, under the run's root.
        number: 0, 1, …
        value: the manifest.
    """

    path: str
    number: int
    value: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """Of the manifest, and so of everything that the version is made of."""
        match = _NAME.fullmatch(self.path)
        assert match is not None
        return match["hash"]

    @property
    def mixture_hash(self) -> str | None:
        """Of the mixture, which is all that training sees; None where nothing was kept for it."""
        path = self.value["mixture"]
        return None if path is None else str(path).rpartition("/")[2].removesuffix(".json")


def versions(storage: Storage) -> list[str]:
    """Paths of the published manifests, oldest first."""
    return sorted(path for path in storage.sizes("manifests") if _NAME.fullmatch(path))


def latest(storage: Storage) -> Published | None:
    """The newest published version, its hash checked; None before the first."""
    paths = versions(storage)
    return read_version(storage, paths[-1]) if paths else None


def read_version(storage: Storage, path: str) -> Published:
    """A published manifest. Raises ValueError when its content is not what its name says."""
    match = _NAME.fullmatch(path)
    assert match is not None
    data = storage.read(path)
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ValueError(
            f"{storage.url(path)} is damaged or cut short: its {len(data):,} bytes are no JSON ({error}); put it back, "
            "or delete it: `tokenmill run` of its recipe publishes it again"
        ) from error
    if hash_json(value) != match["hash"]:
        raise ValueError(f"{storage.url(path)} was edited: its content no longer has the hash in its name")
    return Published(path, int(match["number"]), value)


def publish(
    storage: Storage, recipe: Recipe, recipe_text: str, parts: Sequence[Part], receipts: Sequence[Receipt]
) -> Published:
    """Write the manifests of this version, unless the newest one already says the same."""
    unique = list({receipt.path: receipt for receipt in receipts}.values())
    sheets = balance_sheet([source.name for source in recipe.sources], unique)
    shards = shard_table(
        [_shard_row(output) for receipt in unique if receipt.step == "pack" for output in shards_of(receipt)]
    )
    tokenizer = next(receipt for receipt in unique if receipt.step == "tokenizer").outputs[0]
    shard_output = _named_table(storage, "shards", shards)
    mixture = _mixture(storage, recipe, unique, tokenizer, shard_output)
    value = {
        "format": FORMAT,
        "name": recipe.name,
        "recipe": recipe_text,
        "tokenmill": tokenmill.__version__,
        "libraries": library_versions(("pyarrow", "tokenizers", "numba", "resiliparse", "fastwarc", "trafilatura")),
        "sources": [source.name for source in recipe.sources],
        "plan": _named_table(storage, "plan", plan_table(parts)).path,
        "tasks": _named_table(storage, "tasks", receipt_table([_without_batches(one) for one in unique])).path,
        "shards": shard_output.path,
        "tokenizer": tokenizer.path,
        "mixture": mixture,
        "removals": request_paths(storage),
        "balance": {source: sheet.to_json() for source, sheet in sheets.items()},
    }
    if template := next((receipt for receipt in unique if receipt.step == "template"), None):
        value["template"] = template.outputs[0].path
    before = latest(storage)
    if before is not None and before.value == value:
        return before
    number = 0 if before is None else before.number + 1
    path = f"manifests/run-{number:05d}.{hash_json(value)}.json"
    storage.write(path, canonical_json(value).encode())
    return Published(path, number, value)


def _shard_row(output: Output) -> dict[str, Any]:
    detail = dict(output.detail)
    detail["batch_hashes"] = [bytes.fromhex(digest) for digest in detail["batch_hashes"]]
    return {"path": output.path, "bytes": output.bytes, "hash": output.hash, **detail}


def _without_batches(receipt: Receipt) -> Receipt:
    """The receipt without what the shard table says of each record batch: `checks.receipts_in` puts it back."""
    if receipt.step != "pack":
        return receipt
    outputs = [
        replace(output, detail={name: value for name, value in output.detail.items() if name not in BATCH_COLUMNS})
        for output in receipt.outputs
    ]
    return replace(receipt, outputs=tuple(outputs))


def _named_table(storage: Storage, name: str, table: pa.Table) -> Output:
    """Write a table under the hash of its content."""
    return write_table(storage, name, f"manifests/{name}.{{hash}}.parquet", table)


def _mixture(
    storage: Storage, recipe: Recipe, receipts: Sequence[Receipt], tokenizer: Output, shards: Output
) -> str | None:
    """Write the mixture manifest; None when nothing was kept for training."""
    packed = {name: found for name, found in strata_tokens(receipts).items() if name.split("/")[1] == "train"}
    if not packed and not recipe.mixture.weights:
        return None
    weights = component_weights(recipe, {name: found["tokens"] for name, found in packed.items()})
    encoder = Encoder(storage.read(tokenizer.path), token_policy(recipe))
    mixture = Mixture.of(
        seed=recipe.seed,
        sequence_length=recipe.sequences.length,
        sequence_align=recipe.sequences.align,
        vocab_size=encoder.vocab_size,
        tokenizer_path=tokenizer.path,
        tokenizer_hash=encoder.hash,
        special_ids=encoder.special_ids,
        shard_table_path=shards.path,
        shard_table_hash=shards.hash,
        layout=recipe.sequences.layout,
        batch_size=recipe.mixture.batch_size,
        components=[
            Component(name, weights[name], found["rows"], found["tokens"], recipe.mixture.max_epochs)
            for name, found in packed.items()
        ],
    )
    if recipe.mixture.tokens is not None:
        compile_plan(mixture, rows_of_tokens(mixture, recipe.mixture.tokens))
    storage.write(mixture.path, mixture.to_json().encode())
    return mixture.path


def component_weights(recipe: Recipe, tokens: Mapping[str, int]) -> dict[str, float]:
    """Token share of each component.

    A weight belongs to the components that its name is, or begins, and that no longer name claims; they share it by
    tokens, those of larger clusters counting as `mixture.rehydrate` says.

    Raises:
        RecipeError: when a weight is given to a source or component of which nothing was kept, or none to one that was.
    """
    asked = recipe.mixture.weights
    counted = {name: count * _token_weight(recipe, name) for name, count in tokens.items()}
    if not asked:
        return {name: float(count) for name, count in counted.items()}
    members: dict[str, list[str]] = {name: [] for name in asked}
    for name in sorted(counted):
        claim = claim_of(name, asked)
        if claim is None:
            source = name.split("/")[0]
            raise RecipeError(
                f"mixture.weights gives no weight to {name!r}, of which {tokens[name]:,} tokens were kept: give one to "
                f"it or to its source {source!r}; it names {sorted(asked)}"
            )
        members[claim].append(name)
    weights: dict[str, float] = {}
    for name, weight in asked.items():
        if not members[name]:
            raise RecipeError(
                f"mixture.weights gives {name!r} {weight}, but nothing of it was kept: loosen its bounds (`tokenmill "
                f"audit` says why documents were dropped) or take it out of the mixture; kept: {sorted(tokens)}"
            )
        whole = sum(counted[member] for member in members[name])
        weights |= {member: weight * counted[member] / whole for member in members[name]}
    return weights


def _token_weight(recipe: Recipe, component: str) -> float:
    """How much a component's tokens count for within its source; 1 where the recipe does not rehydrate."""
    bounds = recipe.strata.copies_bounds
    if bounds is None:
        return 1
    size = bounds[copies_names(bounds).index(without_length(component).rsplit(MARK, 1)[1])]
    return recipe.mixture.rehydrate.get(size, 1)


def manifest_table(storage: Storage, published: Published, name: str) -> pa.Table:
    """A table that a version names with the hash of its content: "tasks" (of RECEIPTS), "plan" or "shards".

    Raises:
        FileNotFoundError: it is gone.
        ValueError: its content no longer has the hash in its name.
    """
    path = str(published.value[name])
    data = storage.read(path)
    if (digest := xxhash.xxh3_128_hexdigest(data)) not in path:
        raise ValueError(
            f"{storage.url(path)} is damaged or was edited: its bytes hash to {digest}, which is not the hash in its "
            f"name; put it back, or delete it and {published.path}: `tokenmill run` of its recipe publishes both again"
        )
    return pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read(use_threads=False)
