"""Gates and the ends of the pipeline: what is decided in ingest, and documents of which nothing is left to pack."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.pipeline.corpus import html, prose, warc_record, write_recipe, write_texts
from tests.pipeline.runs import run_inline, tokenmill
from tokenmill.pipeline import checks
from tokenmill.pipeline.loader import open_mixture
from tokenmill.pipeline.recipe.file import RecipeError
from tokenmill.pipeline.storage import Storage

GERMAN = (
    "Der alte Hafen liegt am Rand der Stadt, und wer am Morgen dorthin geht, sieht die Fischer ihre Netze flicken. "
    "Sie sprechen wenig, aber wenn einer von ihnen eine Geschichte erzählt, hören alle anderen zu und lachen leise. "
    "Am Abend werden die Boote wieder an den Steg gebunden, und aus den Fenstern der Häuser fällt warmes Licht."
)
WEB = """
name: gates
output: unused
tokenizer: {train: {vocab_size: 400, sample_bytes: 1MiB}}
sources:
  - name: web
    reader: warc
    paths: ["{folder}/a.warc.gz"]
    gates: {languages: [en], min_language_score: 0.2, min_characters: 50, sample_fraction: SAMPLE}
strata: {by: [language]}
sequences: {length: 64}
"""
NOTES = """
name: empty
output: unused
tokenizer: {train: {vocab_size: 400, sample_bytes: 1MiB}, eos: null, append_eos: false, pad: <|pad|>}
sources:
  - name: notes
    reader: jsonl
    paths: ["{folder}/notes.jsonl"]
    filters: [{c4: {min_sentences: null, max_curly_brackets: null}}]
sequences: {length: 64}
"""


@pytest.mark.parametrize("sample", [0, 1])
def test_a_gated_page_keeps_its_place_and_its_signal_but_not_its_text(tmp_path: Path, sample: int):
    pages = [html("p", prose(number, 6)) for number in range(4)]
    pages[1], pages[2] = html("p", GERMAN), html("p", "Too short.")
    records = [warc_record(f"http://a.example/{number}", page) for number, page in enumerate(pages)]
    (tmp_path / "a.warc.gz").write_bytes(b"".join(records))
    published, _ = run_inline(write_recipe(tmp_path, WEB.replace("SAMPLE", str(sample))), tmp_path / "out")
    ingest = published.value["balance"]["web"]["steps"]["ingest"]
    assert {reason: tally[0] for reason, tally in ingest["dropped"].items()} == {
        "gates.languages": 1,
        "gates.min_characters": 1,
    }
    storage = Storage(str(tmp_path / "out"))
    (documents,) = storage.sizes("documents")
    (language,) = storage.sizes("signals/language")
    rows = pq.read_table(tmp_path / "out" / documents).to_pylist()
    signals = pq.read_table(tmp_path / "out" / language).to_pylist()
    assert [row["gate"] for row in rows] == [None, "gates.languages", "gates.min_characters", None]
    assert [row["text"] is not None for row in rows] == [True, bool(sample), bool(sample), True]
    assert (signals[1]["language"], signals[0]["language"]) == ("de", "en")
    # a gated row is not selected even where its text is kept to look at
    assert published.value["balance"]["web"]["steps"]["select"]["taken"][0] == 2
    assert list(published.value["balance"]["web"]["tokens"]) == ["train/en"]


def test_a_run_that_keeps_nothing_says_so(tmp_path: Path):
    write_texts(tmp_path / "notes.jsonl", [prose(1, 4)])
    nothing = NOTES.replace(
        "[{c4: {min_sentences: null, max_curly_brackets: null}}]", "[{gopher_quality: {min_words: 999}}]"
    )
    recipe = write_recipe(tmp_path, nothing)
    said = tokenmill("run", str(recipe), "--output", str(tmp_path / "out"), "--executor", "inline")
    assert "no mixture: nothing was kept for training" in said
    with pytest.raises(ValueError, match="nothing was kept"):
        open_mixture(str(tmp_path / "out"), batch_size=1)
    recipe.write_text(recipe.read_text() + "mixture: {weights: {notes: 1}}\n")
    with pytest.raises(RecipeError, match=r"mixture\.weights gives 'notes' 1.0, but nothing of it was kept"):
        run_inline(recipe, tmp_path / "out")


def test_a_document_of_which_nothing_is_left_is_booked_in_pack(tmp_path: Path):
    texts = [prose(1, 6), "no mark\nat all", prose(2, 6)]
    write_texts(tmp_path / "notes.jsonl", texts)
    published, _ = run_inline(write_recipe(tmp_path, NOTES), tmp_path / "out")
    pack = published.value["balance"]["notes"]["steps"]["pack"]
    assert (pack["taken"][0], pack["out"][0], pack["dropped"]) == (3, 2, {"pack.empty": [1, 0, 0]})
    found = dict(checks.recount(Storage(str(tmp_path / "out")), published))
    assert [wrong for wrong in found.values() if wrong] == []
