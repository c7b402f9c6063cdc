"""Planning: every file in exactly one part, identities that outlive a move, growth that changes nothing old."""

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tokenmill.pipeline.plan import PLAN, Part, part_key, plan_parts, plan_table
from tokenmill.pipeline.readers.records import Piece, RawFile
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.recipe.file import load_recipe
from tokenmill.pipeline.units import assign_units

RECIPE = """
name: plan
tokenizer: {train: {vocab_size: 1000}}
part_bytes: 1000
sources:
  - {name: web, reader: warc, paths: [raw/*]}
  - {name: code, reader: code, paths: [code/*]}
sequences: {length: 64}
"""

names = st.text("abcdef/", min_size=1, max_size=8).map(lambda text: text.strip("/") or "x")
web_files = st.dictionaries(names.map(lambda n: n + ".warc.gz"), st.integers(0, 5000), max_size=30)
code_files = st.dictionaries(names.map(lambda n: f"repository{len(n) % 3}/{n}.py"), st.integers(0, 900), max_size=30)


def recipe() -> Recipe:
    return load_recipe(RECIPE, "plan.yaml").recipe


def raw(files: dict[str, int], version: str = "v") -> list[RawFile]:
    return [RawFile(f"/raw/{path}", path, size, version) for path, size in sorted(files.items())]


def plan(web: dict[str, int], code: dict[str, int], earlier=None) -> list[Part]:
    return plan_parts(recipe(), {"web": raw(web), "code": raw(code)}, earlier)


@given(web_files, code_files)
def test_every_byte_is_in_one_part(web: dict[str, int], code: dict[str, int]):
    parts = plan(web, code)
    slices = Counter((part.source, p.file.path, p.index, p.count) for part in parts for p in part.pieces)
    assert set(slices.values()) <= {1}
    for source, files in (("web", web), ("code", code)):
        assert {path for name, path, _, _ in slices if name == source} == set(files)
        for path in files:
            found = sorted((index, count) for name, p, index, count in slices if (name, p) == (source, path))
            assert [index for index, _ in found] == list(range(found[0][1]))
    assert len({part.key for part in parts}) == len(parts)
    assert all(part.key == part_key(part.source, part.pieces) for part in parts)


@given(web_files)
def test_parts_are_of_one_folder_and_about_the_size_asked(web: dict[str, int]):
    for part in plan(web, {}):
        assert len({p.file.path.rpartition("/")[0] for p in part.pieces}) == 1
        if len(part.pieces) > 1:
            assert part.bytes <= 2000
        if part.pieces[0].count > 1:
            assert 1000 <= part.bytes < 2000


@given(code_files)
def test_a_repository_stays_together(code: dict[str, int]):
    home: dict[str, set[str]] = {}
    for part in plan({}, code):
        for piece in part.pieces:
            home.setdefault(piece.file.path.split("/")[0], set()).add(part.key)
    assert all(len(parts) == 1 for parts in home.values())


@given(web_files, web_files)
def test_growth_keeps_old_parts_and_makes_a_new_generation(first: dict[str, int], more: dict[str, int]):
    before = plan(first, {})
    after = plan({**more, **first}, {}, plan_table(before))
    assert [part for part in after if part in before] == before
    generation = 1 if first else 0
    new = set(more) - set(first)
    assert {
        p.file.path for part in after if part.generation == generation and part not in before for p in part.pieces
    } == new


def test_a_source_added_later_is_a_new_generation():
    before = plan({"a.warc.gz": 10}, {})
    after = plan({"a.warc.gz": 10}, {"r/x.py": 3}, plan_table(before))
    assert [(part.source, part.generation) for part in after] == [("web", 0), ("code", 1)]


def test_a_changed_file_stays_in_its_part_and_a_vanished_one_dissolves_it():
    files = {"a.warc.gz": 10, "b.warc.gz": 10, "other/c.warc.gz": 10}
    before = plan(files, {})
    changed = plan_parts(recipe(), {"web": raw(files, "v2"), "code": []}, plan_table(before))
    assert [part.key for part in changed] == [part.key for part in before]
    assert {part.raw_hash for part in changed}.isdisjoint(part.raw_hash for part in before)
    del files["b.warc.gz"]
    after = plan(files, {}, plan_table(before))
    assert {(part.generation, part.pieces[0].file.path) for part in after} == {(0, "other/c.warc.gz"), (1, "a.warc.gz")}


def test_another_root_changes_no_key_and_another_content_does():
    here = plan({"a.warc.gz": 10}, {})[0]
    moved = Piece(RawFile("s3://elsewhere/a.warc.gz", "a.warc.gz", 10, "v"))
    assert part_key("web", [moved]) == here.key
    there = Part("web", here.key, 0, (moved,))
    assert there.raw_hash == here.raw_hash
    edited = Part("web", here.key, 0, (Piece(RawFile("/raw/a.warc.gz", "a.warc.gz", 10, "w")),))
    assert edited.raw_hash != here.raw_hash


def test_the_plan_table_holds_the_plan():
    table = plan_table(plan({"a.warc.gz": 5000}, {"r/x.py": 3}))
    assert table.schema == PLAN
    assert table.num_rows == 5 + 1


@given(st.lists(st.tuples(st.integers(0, (1 << 64) - 1), st.integers(0, 2)), unique_by=lambda item: item[0]), st.data())
def test_units_hold_one_source_and_generation_and_about_the_bytes_asked(
    keys: list[tuple[int, int]], data: st.DataObject
):
    parts = [Part("web", f"{key:016x}", generation, ()) for key, generation in keys]
    kept = {part.key: data.draw(st.integers(0, 1000)) for part in parts}
    units = assign_units(parts, kept, unit_bytes=500)
    assert set(units) == set(kept)
    for part in parts:
        assert units[part.key].startswith(f"web-g{part.generation}")
    for generation in range(3):
        total = sum(kept[part.key] for part in parts if part.generation == generation)
        found = {units[part.key] for part in parts if part.generation == generation}
        assert len(found) <= 2 * max(1, total // 500)
    assert units == assign_units(parts[::-1], kept, unit_bytes=500)


def test_new_parts_leave_old_units_alone():
    old = [Part("web", f"{key << 60:016x}", 0, ()) for key in range(4)]
    new = [Part("web", f"{(key << 60) + 1:016x}", 1, ()) for key in range(4)]
    kept = {part.key: 400 for part in (*old, *new)}
    before = assign_units(old, kept, 500)
    after = assign_units([*old, *new], kept, 500)
    assert {key: after[key] for key in before} == before
    assert set(after.values()) - set(before.values()) == {after[part.key] for part in new}


def test_a_file_beside_the_recipe(tmp_path: Path, monkeypatch):
    from tokenmill.pipeline.plan import find_files

    monkeypatch.chdir(tmp_path)
    Path("a.warc.gz").write_bytes(b"x")
    recipe_file = load_recipe(RECIPE.replace("raw/*", "a.warc.gz"), "r")
    (file,) = find_files(recipe_file, 0, lambda url, size, modified: f"{size}")
    assert (file.path, file.bytes, file.version) == ("a.warc.gz", 1, "1")
