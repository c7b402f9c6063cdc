"""`tokenmill remove --erase`: no byte of the text is left in the folder, the one version left is whole."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from tests.pipeline.corpus import fingerprint, html, prose, warc_record, write_recipe
from tests.pipeline.runs import run_inline
from tests.pipeline.test_takedown import assert_whole, newest, packed, pages, removed
from tokenmill.pipeline.book import Book
from tokenmill.pipeline.erase import erase_removed, tombstones
from tokenmill.pipeline.look import sample
from tokenmill.pipeline.opened import open_run
from tokenmill.pipeline.opened_units import open_units
from tokenmill.pipeline.seen import described
from tokenmill.pipeline.steps.publish import versions
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.takedown import Asked
from tokenmill.pipeline.why import fate_of, told

RECIPE = """
name: erase
output: unused
part_bytes: 8KiB
tokenizer: {train: {vocab_size: 400, sample_bytes: 1MiB}}
sources:
  - name: web
    reader: warc
    paths: ["{folder}/web/*.warc.gz"]
    root: "{folder}/web"
    filters: [c4: {terminal_punctuation: false, min_sentences: null}]
strata: {validation_fraction: 0.1}
sequences: {length: 64, unit_bytes: 8KiB}
"""
SECRET = ("Zanzibar", "quokka", "marmalade")


def write_pages(folder: Path, name: str, texts: dict[str, str]) -> None:
    records = [warc_record(url, html("page", text)) for url, text in texts.items()]
    (folder / "web").mkdir(parents=True, exist_ok=True)
    (folder / "web" / f"{name}.warc.gz").write_bytes(b"".join(records))


def secret_text(number: int) -> str:
    """Prose around the secret; C4 takes one of its lines out, so an edit touches it."""
    return f"{prose(f's{number}', 12)}\n\n{' '.join(SECRET)} number {number}.\n\nShort\n\n{prose(f't{number}', 6)}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of two versions; http://s.example/0 and its copies hold the secret, so does http://s.example/1."""
    common = {f"http://a.example/{number}": prose(number, 14) for number in range(20)}
    write_pages(tmp_path, "a", {**common, "http://s.example/0": secret_text(0), "http://m.example/0": secret_text(0)})
    more = {f"http://b.example/{number}": prose(f"b{number}", 14) for number in range(20)}
    near = secret_text(0).rpartition(". ")[0] + "."  # the longest is the keeper
    write_pages(tmp_path, "b", {**more, "http://near.example/0": near, "http://s.example/1": secret_text(1)})
    recipe = write_recipe(tmp_path, RECIPE)
    run_inline(recipe, tmp_path / "out")
    recipe.write_text(recipe.read_text().replace("length: 64", "length: 32"))
    run_inline(recipe, tmp_path / "out")
    return tmp_path


def texts_in(output: Path) -> Iterator[tuple[str, str]]:
    """Every text in the folder: all columns of all tables, all token ids decoded, every other file as it is."""
    tokenizer = Tokenizer.from_file(str(next(output.glob("tokenizer/tokenizer.*.json"))))
    for path in sorted(path for path in output.rglob("*") if path.is_file()):
        name = str(path.relative_to(output))
        if path.suffix == ".parquet":
            yield name, str(pq.read_table(path).to_pylist())
        elif name.startswith("sequences/"):
            for tokens in pa.ipc.open_file(path).read_all().column("tokens").to_pylist():
                yield name, tokenizer.decode(tokens)
        else:
            yield name, path.read_bytes().decode("utf-8", "replace")


def holding(output: Path) -> set[str]:
    """Folders in which a word of the secret is found; a row may cut one of them."""
    return {name.split("/")[0] for name, text in texts_in(output) if any(word in text for word in SECRET)}


def erased(output: Path):
    return erase_removed(Storage(str(output)), newest(output))


def test_no_byte_of_the_text_is_left(folder: Path):
    output, at = folder / "out", pages(folder / "out")
    assert holding(output) == {"documents", "sequences"}
    before = packed(output, newest(output))
    removed(output, Asked(urls=("http://s.example/0", "http://s.example/1"), reason="their author asked"))
    assert holding(output) == {"documents", "sequences"}  # of the earlier versions
    earlier = versions(Storage(str(output)))
    outcome = erased(output)
    assert holding(output) == set()
    # two pages named, an exact and a near copy of one of them, which were out already
    assert (outcome.documents, set(outcome.versions)) == (
        4,
        set(earlier) - {newest(output).path} - {outcome.published.path},
    )
    assert packed(output, newest(output)) == before - {at["http://s.example/0"], at["http://s.example/1"]}
    assert versions(Storage(str(output))) == [newest(output).path]
    assert [stone["version"] for stone in tombstones(Storage(str(output)))] == earlier
    assert_whole(output)

    # the run goes on as if nothing had been: nothing is redone, and it can grow
    assert run_inline(folder / "recipe.yaml", output) == (newest(output), [])
    assert erased(output).files == 0
    kept = packed(output, newest(output))
    write_pages(folder, "c", {"http://c.example/0": secret_text(0), "http://c.example/1": prose("new", 14)})
    grown, _ = run_inline(folder / "recipe.yaml", output)
    assert packed(output, grown) == kept | {pages(output)["http://c.example/1"]}
    assert_whole(output)
    assert holding(output) == {"documents"}
    erased(output)
    assert holding(output) == set()
    assert_whole(output)


def test_people_are_told(folder: Path):
    output, at = folder / "out", pages(folder / "out")
    removed(output, Asked(urls=("http://s.example/0",), reason="its author asked"))
    erased(output)
    storage, published = Storage(str(output)), newest(output)
    run = open_run(storage, published)
    units = open_units(storage, published, run.recipe_file.recipe)
    part, row = at["http://s.example/0"].split(":")
    assert "named as url: its author asked; its text was erased" in told(fate_of(run, units, "web", part, int(row)))
    kept = [described(seen, 80) for seen in sample(run, "web", "kept", 1000)[1]]
    assert sum("its text was erased after a takedown" in text for text in kept) == 3


def test_new_signals_of_an_erased_document_are_null_and_it_is_dropped(folder: Path):
    """A changed edit rule measures everything again: of nothing, here."""
    output = folder / "out"
    removed(output, Asked(urls=("http://s.example/0",)))
    erased(output)
    were = packed(output, newest(output))
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("terminal_punctuation: false", "terminal_punctuation: true"))
    published, _ = run_inline(recipe, output)
    assert packed(output, published) == were
    select = published.value["balance"]["web"]["steps"]["select"]
    assert select["dropped"]["removed.takedown"][0] == 3
    assert_whole(output)


def in_ledger(output: Path) -> set[str]:
    """What the newest version's ledgers remove."""
    storage, published = Storage(str(output)), newest(output)
    units = open_units(storage, published, open_run(storage, published).recipe_file.recipe).units
    rows = [row for unit in units.values() for row in pq.read_table(output / unit.ledger.path).to_pylist()]
    return {f"{row['removed_part']}:{row['removed_row']}" for row in rows}


def test_two_erased_pages_are_duplicates_by_their_signatures(folder: Path):
    output, near = folder / "out", pages(folder / "out")["http://near.example/0"]
    removed(output, Asked(urls=("http://s.example/0",)))
    erased(output)
    assert near in in_ledger(output)
    were = packed(output, newest(output))
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text() + "dedup: {verify: text}\n")
    published, _ = run_inline(recipe, output)
    assert near in in_ledger(output)
    assert packed(output, published) == were
    assert_whole(output)


def equal_minima(output: Path, one: str, other: str) -> int:
    """Of two documents, from their signatures as they lie there: four bytes a minimum."""
    signatures = []
    for name in (one, other):
        part, row = name.split(":")
        (path,) = output.glob(f"signals/minhash/web/{part}.*.parquet")
        minima: bytes = pq.read_table(path).column("signature")[int(row)].as_py()
        signatures.append([minima[at : at + 4] for at in range(0, len(minima), 4)])
    return sum(a == b for a, b in zip(*signatures, strict=True))


def test_with_verify_text_a_near_copy_that_comes_later_stays_out(folder: Path):
    """Against what is erased the whole signature decides; against what stands, the text as before."""
    output, recipe = folder / "out", folder / "recipe.yaml"
    recipe.write_text(recipe.read_text() + "dedup: {verify: text}\n")
    run_inline(recipe, output)
    at = pages(output)
    removed(output, Asked(urls=("http://s.example/0",)))
    assert list(output.glob("dedup/sets/*"))
    erased(output)
    assert not list(output.glob("dedup/sets/*"))  # a text can be guessed from them
    were = packed(output, newest(output))
    published, _ = run_inline(recipe, output)
    assert packed(output, published) == were
    words = secret_text(0).split()
    few = " ".join([*words[:-3], "another", "end", "here."])
    many = " ".join(word if index % 7 else "other" for index, word in enumerate(words))
    texts = {"few": few, "many": many, "standing": prose(3, 14) + " One more."}
    write_pages(folder, "c", {f"http://{name}.example/0": text for name, text in texts.items()})
    grown, _ = run_inline(recipe, output)
    now = pages(output)
    new = {name: now[f"http://{name}.example/0"] for name in texts}
    assert packed(output, grown) == were | {new["many"]}
    assert_whole(output)

    storage = Storage(str(output))
    book = Book(storage)
    book.load()
    assert max(found.notes["by_signature"] for found in book.known.values() if found.step == "dedup_check") > 0
    run = open_run(storage, grown)
    units = open_units(storage, grown, run.recipe_file.recipe)
    fates = {name: fate_of(run, units, "web", part, int(row)) for name, (part, row) in split(new).items()}
    removal = fates["few"].removal
    assert removal is not None
    keeper = f"{removal['keeper_part']}:{removal['keeper_row']}"
    assert keeper in {at["http://s.example/0"], at["http://m.example/0"]}
    equal = equal_minima(output, keeper, new["few"])
    assert 90 <= equal < 112
    assert removal["similarity"] == pytest.approx(equal / 112, abs=2e-6)
    assert "; its text was erased, so the signatures decided" in told(fates["few"])
    assert "signatures decided" not in told(fates["standing"])
    assert "removed as a near duplicate" in told(fates["standing"])


def split(names: dict[str, str]) -> dict[str, list[str]]:
    return {name: identity.split(":") for name, identity in names.items()}


def test_an_erasure_killed_anywhere_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch):
    output = folder / "out"
    removed(output, Asked(urls=("http://s.example/0", "http://s.example/1")))
    unbroken = folder / "unbroken"
    shutil.copytree(output, unbroken)
    erased(unbroken)
    done, limit = [0], 0

    def counted(function):
        def call(*arguments):
            done[0] += 1
            if done[0] > limit:
                raise KeyboardInterrupt
            return function(*arguments)

        return call

    monkeypatch.setattr(Storage, "delete", counted(Storage.delete))
    monkeypatch.setattr(Storage, "_place", counted(Storage._place))
    kills = 0
    while True:
        done[0], limit = 0, limit + 3
        try:
            erased(output)
        except KeyboardInterrupt:
            kills += 1
        else:
            break
    assert kills > 5
    monkeypatch.undo()
    assert holding(output) == set()
    assert_whole(output)
    assert stones(fingerprint(output)) == stones(fingerprint(unbroken))


def stones(files: dict[str, str]) -> set[tuple[str, str]]:
    """A fingerprint without the tombstones' times."""
    return {(path, "" if path.startswith("tombstones/") else digest) for path, digest in files.items()}


def test_nothing_to_erase(folder: Path):
    with pytest.raises(ValueError, match="nothing was ever removed"):
        erased(folder / "out")
