"""The committed table of classes against what the installed `tokenizers` says."""

import unicodedata
from importlib.resources import files

import pytest
from tokenizers import Regex, normalizers, pre_tokenizers

from tokenmill.pipeline.tokens import letter_classes as module
from tokenmill.pipeline.tokens.letter_classes import (
    CODE_POINTS,
    LETTER,
    LOWER,
    NEWLINE,
    NFC_CHANGES,
    NUMBER,
    NUMERIC,
    SPACE,
    UPPER,
    letter_classes,
)
from tokenmill.pipeline.tokens.make_letter_classes import main


def class_of(point: int) -> int:
    block, of_block = letter_classes()
    return int(of_block[int(block[point >> 8]) << 8 | point & 0xFF])


def test_the_file_is_what_the_script_writes(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    assert files(module.__package__).joinpath("letter_classes.txt").read_text() == capsys.readouterr().out


def test_letters_that_python_3_11_lacks() -> None:
    """Unicode 14's tables would cut these otherwise; on a newer Python fewer are lacking."""
    scalars = [point for point in range(CODE_POINTS) if not 0xD800 <= point < 0xE000]
    lacking = [p for p in scalars if class_of(p) & LETTER and not unicodedata.category(chr(p)).startswith("L")]
    if unicodedata.unidata_version == "14.0.0":
        assert len(lacking) == 9272
    for point in lacking[::50]:
        text = f"a{chr(point)}b"
        assert pre_tokenizers.Split(Regex(r"\p{L}+"), "isolated").pre_tokenize_str(text) == [(text, (0, 3))]


@pytest.mark.parametrize(
    ("character", "classes"),
    [
        ("a", LETTER | LOWER),
        ("A", LETTER | UPPER),
        ("ǅ", LETTER | UPPER),
        ("ʰ", LETTER | UPPER | LOWER),
        ("語", LETTER | UPPER | LOWER),
        ("\u0301", UPPER | LOWER | NFC_CHANGES),
        ("7", NUMBER | NUMERIC),
        ("½", NUMBER | NUMERIC),
        ("_", 0),
        (" ", SPACE),
        ("\n", SPACE | NEWLINE),
        ("\r", SPACE | NEWLINE),
        ("\u0085", SPACE),
        ("\u200b", 0),
        ("\u1161", LETTER | UPPER | LOWER | NFC_CHANGES),
        ("\u212b", LETTER | UPPER | NFC_CHANGES),
    ],
)
def test_classes(character: str, classes: int) -> None:
    assert class_of(ord(character)) == classes


def test_without_the_marked_characters_nfc_changes_nothing() -> None:
    safe = [p for p in range(CODE_POINTS) if not 0xD800 <= p < 0xE000 and not class_of(p) & NFC_CHANGES]
    nfc = normalizers.NFC()
    for step in (1, 7, 4099):  # other neighbours each time
        text = "".join(chr(safe[place * step % len(safe)]) for place in range(len(safe)))
        assert nfc.normalize_str(text) == text
