"""The manifest of a mix: stages, each so many rows of a mixture, and what was asked for. A JSON file named by its hash.

What it lists is what `open_mixture` would be given: it opens as its stages do.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import xxhash

FORMAT = "tokenmill-mix/1"
#: Where mixes lie under a root.
FOLDER = "manifests/mixes"


@dataclass(frozen=True)
class MixedStage:
    """So many rows of a mixture.

    Attributes:
        mixture: path of its manifest, under the mix's root.
        rows: global rows.
    """

    mixture: str
    rows: int


@dataclass(frozen=True)
class Mix:
    """What `tokenmill mix` writes last.

    Attributes:
        name: for people.
        recipe: what was asked for, in plain values.
        stages: in order.
    """

    name: str
    recipe: Mapping[str, Any]
    stages: tuple[MixedStage, ...]

    def to_json(self) -> str:
        """The manifest's text: the same for equal mixes."""
        value = {"format": FORMAT, **asdict(self)}
        return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Mix":
        """Read a manifest; ValueError when its format is another."""
        value = json.loads(text)
        if value.get("format") != FORMAT:
            raise ValueError(f"mix format {value.get('format')!r} is not {FORMAT!r}: use the version that wrote it")
        return cls(value["name"], value["recipe"], tuple(MixedStage(**stage) for stage in value["stages"]))

    @property
    def path(self) -> str:
        """Where the manifest lies under its root."""
        return f"{FOLDER}/{xxhash.xxh3_128_hexdigest(self.to_json().encode())}.json"
