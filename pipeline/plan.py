"""Recipe + inputs → parts.

A part is the unit of work up to *select*: raw files of one folder that share leading bits of their path's hash, about
`part_bytes` together, or a slice of a larger file. Files of one repository stay together. A part's key comes from the
source's name, the paths under the source's root and the slice, so it outlives a moved bucket; documents are named by
it.

A run that grows keeps its parts: files the last published version knew stay in their parts, new files make new parts
of a new generation.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import xxhash

from tokenmill.manifests.keyed import key64
from tokenmill.pipeline.readers import is_sliceable
from tokenmill.pipeline.readers.records import Piece, RawFile
from tokenmill.pipeline.recipe import Recipe, Source, source_root
from tokenmill.pipeline.recipe.file import RecipeFile

PLAN = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("generation", pa.int32(), nullable=False),
        pa.field("path", pa.string(), nullable=False),  # under the source's root
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("slice", pa.int32(), nullable=False),
        pa.field("slices", pa.int32(), nullable=False),
    ]
)

#: (url, bytes, modification time) → content hash of a file of this machine
VersionOf = Callable[[str, int, float], str]


@dataclass(frozen=True)
class Part:
    """A unit of work.

    Attributes:
        source: its source's name.
        key: 16 hex digits; with a row number, a document's identity.
        generation: 0 for the first build, one more for each growth that brought new files.
        pieces: the raw files, or the slice of one, in order of path.
    """

    source: str
    key: str
    generation: int
    pieces: tuple[Piece, ...]

    @property
    def raw_hash(self) -> str:
        """Hash of the raw content: paths, versions and slices."""
        items = [f"{p.file.path}\0{p.file.version}\0{p.index}/{p.count}" for p in self.pieces]
        return xxhash.xxh3_128_hexdigest("\n".join(items).encode())

    @property
    def bytes(self) -> int:
        """Raw bytes it reads."""
        return sum(piece.byte_range[1] - piece.byte_range[0] for piece in self.pieces)


def part_key(source: str, pieces: Sequence[Piece]) -> str:
    """16 hex digits from the source's name, the paths and the slice."""
    slices = [f"{piece.index}/{piece.count}" for piece in pieces]
    return f"{key64(source, *(piece.file.path for piece in pieces), *slices):016x}"


def find_files(recipe_file: RecipeFile, index: int, version_of: VersionOf) -> list[RawFile]:
    """The raw files of the recipe's source `index`, sorted by path under its root.

    Raises:
        RecipeError: when a pattern matches nothing, naming its line.
    """
    source = recipe_file.recipe.sources[index]
    root = source_root(source)
    found: dict[str, Any] = {}
    for number, pattern in enumerate(source.paths):
        filesystem, key = fsspec.core.url_to_fs(pattern)
        matches = filesystem.glob(key, detail=True) if any(mark in key for mark in "*?[") else _one(filesystem, key)
        matches = {name: info for name, info in matches.items() if info["type"] == "file"}
        if not matches:
            raise recipe_file.error(
                ("sources", index, "paths", number),
                f"{pattern!r} matches no file; check the path, or the variable it is made from",
            )
        found |= {name: (filesystem, info) for name, info in matches.items()}
    base = fsspec.core.url_to_fs(root)[1].rstrip("/") + "/"
    outside = [name for name in found if not name.startswith(base)]
    if outside:
        raise recipe_file.error(("sources", index, "root"), f"{outside[0]!r} does not lie under the root {root!r}")
    with ThreadPoolExecutor(8) as pool:
        files = pool.map(lambda item: _raw_file(*item, base=base, version_of=version_of), found.items())
        return sorted(files, key=lambda file: file.path)


def find_file(source: Source, path: str, version_of: VersionOf) -> RawFile | None:
    """A raw file by its path under the source's root, as it is now; None where it is gone."""
    root = source_root(source)
    filesystem, key = fsspec.core.url_to_fs(f"{root}/{path}")
    filesystem.invalidate_cache()
    base = fsspec.core.url_to_fs(root)[1].rstrip("/") + "/"
    found = [
        _raw_file(name, (filesystem, info), base=base, version_of=version_of)
        for name, info in _one(filesystem, key).items()
    ]
    return found[0] if found else None


def _one(filesystem: Any, key: str) -> dict[str, Any]:
    return {key.rstrip("/"): filesystem.info(key)} if filesystem.exists(key) else {}


def _raw_file(name: str, found: tuple[Any, Any], *, base: str, version_of: VersionOf) -> RawFile:
    filesystem, info = found
    url = filesystem.unstrip_protocol(name) if "file" not in filesystem.protocol else name
    version = info.get("ETag")
    if version is None:  # no object store: the content itself says which version it is
        modified = os.stat(name).st_mtime if "file" in filesystem.protocol else 0.0
        version = version_of(url, info["size"], modified)
    return RawFile(url, name[len(base) :], info["size"], version.strip('"'))


def plan_parts(recipe: Recipe, files: Mapping[str, Sequence[RawFile]], earlier: pa.Table | None = None) -> list[Part]:
    """Group files into parts.

    Args:
        recipe: for part sizes and readers.
        files: by source.
        earlier: the PLAN of the last published version, whose parts stay as far as their files are still there.

    Returns:
        Parts sorted by (source in the recipe's order, generation, key).
    """
    parts: list[Part] = []
    # one count for all sources: a source added later comes after every document that was there before
    generation = 1 + max(earlier.column("generation").to_pylist(), default=-1) if earlier is not None else 0
    for source in recipe.sources:
        kept, new = _earlier_parts(source, files[source.name], earlier)
        part_bytes = int(source.part_bytes or recipe.part_bytes)
        fresh = [
            Part(source.name, part_key(source.name, pieces), generation, pieces)
            for pieces in _group(source, new, part_bytes)
        ]
        parts += sorted([*kept, *fresh], key=lambda part: (part.generation, part.key))
    return parts


def _earlier_parts(
    source: Source, files: Sequence[RawFile], earlier: pa.Table | None
) -> tuple[list[Part], list[RawFile]]:
    """Parts of the earlier plan whose files are all still there (with what they hold now), and the files left over."""
    here = {file.path: file for file in files}
    rows = [row for row in (earlier.to_pylist() if earlier is not None else []) if row["source"] == source.name]
    by_part: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_part[row["part"], row["generation"]].append(row)
    kept: list[Part] = []
    taken: set[str] = set()
    for (key, generation), members in by_part.items():
        if all(member["path"] in here for member in members):
            pieces = tuple(Piece(here[member["path"]], member["slice"], member["slices"]) for member in members)
            kept.append(Part(source.name, key, generation, pieces))
    # a sliced file whose slices did not all stay starts anew
    whole = {(p.file.path, p.index) for part in kept for p in part.pieces}
    kept = [part for part in kept if all((p.file.path, i) in whole for p in part.pieces for i in range(p.count))]
    taken = {piece.file.path for part in kept for piece in part.pieces}
    return kept, [file for file in files if file.path not in taken]


def _group(source: Source, files: Iterable[RawFile], part_bytes: int) -> list[tuple[Piece, ...]]:
    folders: dict[str, dict[str, list[RawFile]]] = defaultdict(lambda: defaultdict(list))
    groups: list[tuple[Piece, ...]] = []
    for file in files:
        slices = file.bytes // part_bytes
        if slices > 1 and is_sliceable(source.reader, file.path):
            groups += [(Piece(file, index, slices),) for index in range(slices)]
        else:
            folder, bundle = _folder_and_bundle(source, file.path)
            folders[folder][bundle].append(file)
    for bundles in folders.values():
        groups += [tuple(Piece(file) for file in group) for group in _split(bundles, part_bytes, bit=0)]
    return groups


def _folder_and_bundle(source: Source, path: str) -> tuple[str, str]:
    """What may share a part (the folder), and what must (the bundle: one file, or a repository's files)."""
    first, _, rest = path.partition("/")
    if source.reader == "code" and rest:
        return "", first
    return path.rpartition("/")[0], path


def _split(bundles: Mapping[str, list[RawFile]], part_bytes: int, bit: int) -> list[list[RawFile]]:
    """Split on the bits of the bundle names' hashes until no group is over twice `part_bytes`, or it is one bundle."""
    files = sorted((file for group in bundles.values() for file in group), key=lambda file: file.path)
    if not files:
        return []
    if len(bundles) == 1 or bit == 64 or sum(file.bytes for file in files) <= 2 * part_bytes:
        return [files]
    sides: tuple[dict[str, list[RawFile]], dict[str, list[RawFile]]] = ({}, {})
    for name, group in bundles.items():
        sides[key64(name) >> (63 - bit) & 1][name] = group
    return [group for side in sides for group in _split(side, part_bytes, bit + 1)]


def plan_table(parts: Sequence[Part]) -> pa.Table:
    """The plan as a table of PLAN."""
    rows = [
        {
            "source": part.source,
            "part": part.key,
            "generation": part.generation,
            "path": piece.file.path,
            "bytes": piece.file.bytes,
            "version": piece.file.version,
            "slice": piece.index,
            "slices": piece.count,
        }
        for part in parts
        for piece in part.pieces
    ]
    return pa.Table.from_pylist(rows, schema=PLAN)
