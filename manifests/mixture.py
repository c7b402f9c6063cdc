"""The mixture: which components a training run draws its rows from, in exact integer counts.

A component is one stratum of one source. Its weight is a share of tokens; what is counted out is rows, so the weight is
divided by the component's mean valid tokens a row and turned into an integer once, here, by this rule:

    r = weight · rows / tokens        exact fractions; a weight is the decimal number its shortest form spells
    row weight = max(1, ⌊2^53 · r / Σr + 1/2⌋)

so at 3·10^9 rows (12T tokens at L = 4096) rounding moves no count by more than 10^-6 rows. Components are sorted by
(row weight descending, name); rows are shared out among them as `split` says.

The manifest is one JSON file named by its own hash.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import xxhash

from tokenmill.manifests.lengths import length_of, with_length, without_length
from tokenmill.manifests.shards import PRETRAINING, check_layout
from tokenmill.manifests.split import Split

FORMAT = "tokenmill-mixture/1"
#: Where mixtures lie under a run's root.
FOLDER = "manifests/mixtures"
SPECIAL_TOKENS = ("bos", "eos", "pad", "mask")
#: Rows whose components are counted out together; within them the components are permuted.
ROWS_PER_BLOCK = 1024
_WEIGHT_BITS = 53  # every JSON reader keeps integers up to 2^53


@dataclass(frozen=True)
class Component:
    """One stratum of one source.

    Attributes:
        name: "source/stratum", as in the shard table.
        weight: share of the run's tokens, relative to the other components' weights.
        rows: stored rows.
        tokens: tokens in them that are not padding.
        max_epochs: how often a row may be visited; the last visit may be partial (2.5).
    """

    name: str
    weight: float
    rows: int
    tokens: int
    max_epochs: float = 1.0

    def __post_init__(self) -> None:
        for field in ("weight", "max_epochs"):
            value = getattr(self, field)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(
                    f"{field} of component {self.name!r} is {value}: give a number above 0, or leave it out"
                )
        if self.rows < 1 or self.tokens < 1:
            raise ValueError(
                f"component {self.name!r} has weight {self.weight} but {self.rows} rows and {self.tokens} tokens: "
                "leave it out of the mixture, or pack some of it"
            )

    @property
    def row_limit(self) -> int:
        """Rows a plan may take: ⌊max_epochs · rows⌋."""
        return int(_exact(self.max_epochs) * self.rows)


@dataclass(frozen=True)
class RunPlace:
    """A run that a mixture's rows lie in, where it is not the folder that the mixture lies in.

    Attributes:
        place: the run's root, relative to the mixture's (`../web`), or whole where they share no folder.
        manifest: of the version that is meant, under the run's root; its name has its hash.
        shard_table_hash: xxh3-128 (hex) of that version's shard table.
        sources: by their names in the mixture, what they are called in the run.
    """

    place: str
    manifest: str
    shard_table_hash: str
    sources: dict[str, str]


@dataclass(frozen=True)
class Mixture:
    """What a trainer opens. Build it with `Mixture.of`, which puts the components in order.

    Attributes:
        seed: 64-bit, of the order of rows.
        sequence_length: tokens a row (L).
        vocab_size: ids run from 0 to vocab_size - 1.
        tokenizer_path: under the run's root.
        tokenizer_hash: xxh3-128 (hex) of the file.
        special_ids: bos, eos, pad, mask; -1 where the tokenizer has none.
        shard_table_path: Parquet file of schema SHARDS, under the run's root.
        shard_table_hash: xxh3-128 (hex) of the file.
        components: sorted by (row weight descending, name).
        sequence_align: pieces begin at multiples of so many tokens; in the manifest only where it is not 1.
        layout: what a row holds, see `SequenceFormat`; in the manifest only where it is not "pretraining".
        batch_size: rows of one length come so many at a time; in the manifest only where rows have several, which the
            components' names tell (see the module `lengths`), and `sequence_length` is the longest.
        runs: the shard table's path `1/…` is under the root of the second of these; in the manifest only where there
            are any, else paths are under the mixture's own.
    """

    seed: int
    sequence_length: int
    vocab_size: int
    tokenizer_path: str
    tokenizer_hash: str
    special_ids: dict[str, int]
    shard_table_path: str
    shard_table_hash: str
    components: tuple[Component, ...]
    sequence_align: int = 1
    layout: str = PRETRAINING
    batch_size: int | None = None
    runs: tuple[RunPlace, ...] = ()

    @classmethod
    def of(cls, *, components: Iterable[Component], **fields: Any) -> "Mixture":
        """The mixture of these components, in any order; `fields` are the others."""
        listed = sorted(components, key=lambda component: component.name)
        weights = row_weights(listed)
        order = sorted(range(len(listed)), key=lambda i: (-weights[i], listed[i].name))
        return cls(components=tuple(listed[i] for i in order), **fields)

    def __post_init__(self) -> None:
        names = [component.name for component in self.components]
        if not names:
            raise ValueError("a mixture needs at least one component")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"components listed twice: {', '.join(twice)}; add their weights and list each once")
        if sorted(self.special_ids) != sorted(SPECIAL_TOKENS):
            raise ValueError(
                f"special_ids has {sorted(self.special_ids)}: give {', '.join(SPECIAL_TOKENS)}, -1 for none"
            )
        if not 0 <= self.seed < 1 << 64:
            raise ValueError(f"seed is {self.seed}: give a 64-bit number, 0 … 2^64-1")
        check_layout(self.layout)
        if self.batch_size is not None:
            self._check_lengths(names)
        weights = self.row_weights
        if any(a < b or (a == b and m > n) for a, b, m, n in zip(weights, weights[1:], names, names[1:], strict=False)):
            raise ValueError("components are out of order: build the mixture with Mixture.of")

    def _check_lengths(self, names: Iterable[str]) -> None:
        """Raise ValueError unless all components of these names tell their length."""
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}: give at least 1 row")
        for name in names:
            length = length_of(name)
            if length is None or not 0 < length <= self.sequence_length:
                raise ValueError(
                    f"component {name!r} does not say its rows' length, up to {self.sequence_length}, by its name: "
                    f"call it {with_length(without_length(name), self.sequence_length)!r}, or leave out batch_size"
                )

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of the rows that there are, rising; L alone where they have one length."""
        if self.batch_size is None:
            return (self.sequence_length,)
        return tuple(sorted({self.length_of(component) for component in self.components}))

    def length_of(self, component: Component) -> int:
        """Tokens of a component's rows."""
        return (self.batch_size and length_of(component.name)) or self.sequence_length

    def of_length(self, length: int) -> "Mixture":
        """The rows of one of `lengths` alone, as a mixture of one length."""
        if self.batch_size is None:
            return self
        return self.of_components((one for one in self.components if self.length_of(one) == length), length)

    def of_components(self, components: Iterable[Component], length: int) -> "Mixture":
        """A mixture of other components of the same shard table, all of rows of one length."""
        names = self.__dataclass_fields__.keys() - {"components", "sequence_length", "batch_size"}
        fields = {name: getattr(self, name) for name in names}
        return Mixture.of(components=components, sequence_length=length, **fields)

    @cached_property
    def row_weights(self) -> tuple[int, ...]:
        """Integer weight of each component's rows."""
        return row_weights(self.components)

    @cached_property
    def split(self) -> Split:
        """Shares of the components in any first rows."""
        return Split(self.row_weights)

    def counts(self, rows: int) -> list[int]:
        """Of the run's first `rows` rows, how many come from each component (exact; never less for more rows)."""
        return self.split.counts(rows)

    def to_json(self) -> str:
        """The manifest's text: the same for equal mixtures. Derived numbers stand in it for those who read it."""
        listed = [
            {
                **asdict(component),
                "weight": float(component.weight),
                "max_epochs": float(component.max_epochs),
                "row_weight": row_weight,
                "mean_valid_tokens": component.tokens / component.rows,
            }
            for component, row_weight in zip(self.components, self.row_weights, strict=True)
        ]
        fields = self.__dataclass_fields__
        defaults = {
            name
            for name in ("sequence_align", "layout", "batch_size", "runs")
            if getattr(self, name) == fields[name].default
        }
        names = [name for name in fields if name not in {"components", *defaults}]
        plain = {"runs": [asdict(run) for run in self.runs]}
        value = {"format": FORMAT, "components": listed}
        value |= {name: plain.get(name) or getattr(self, name) for name in names}
        return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Mixture":
        """Read a manifest; ValueError when its format is another or its derived numbers do not follow from the rest."""
        value = json.loads(text)
        if value.get("format") != FORMAT:
            raise ValueError(f"mixture format {value.get('format')!r} is not {FORMAT!r}: use the version that wrote it")
        fields = {name: value[name] for name in cls.__dataclass_fields__ if name in value and name != "components"}
        known = Component.__dataclass_fields__
        components = tuple(Component(**{name: item[name] for name in known}) for item in value["components"])
        if "runs" in fields:
            fields["runs"] = tuple(RunPlace(**run) for run in fields["runs"])
        mixture = cls(components=components, **fields)
        if json.loads(mixture.to_json()) != value:
            raise ValueError(
                "mixture manifest was edited: its row weights or means do not follow from its other numbers"
            )
        return mixture

    @cached_property
    def hash(self) -> str:
        """xxh3-128 (hex) of the manifest's text: its name."""
        return xxhash.xxh3_128_hexdigest(self.to_json().encode())

    @property
    def order_hash(self) -> str:
        """As `hash`, of all that decides the order of rows: not of where the runs lie."""
        return replace(self, runs=()).hash if self.runs else self.hash

    @property
    def path(self) -> str:
        """Where the manifest lies under the run's root."""
        return f"{FOLDER}/{self.hash}.json"


def row_weights(components: Iterable[Component]) -> tuple[int, ...]:
    """Integer row weight of each component, in order; see the module's text for the rule."""
    shares = [_exact(component.weight) * component.rows / component.tokens for component in components]
    scale = (1 << _WEIGHT_BITS) / (sum(shares, Fraction(0)) or Fraction(1))
    return tuple(max(1, math.floor(share * scale + Fraction(1, 2))) for share in shares)


def _exact(number: float) -> Fraction:
    """The decimal number that the float's shortest form spells: 0.1 is 1/10."""
    return Fraction(repr(number))
