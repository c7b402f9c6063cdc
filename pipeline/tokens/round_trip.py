"""Round trip: whether token ids, decoded, are the text they came from; looked at on a sample of every part.

The ids are decoded by `tokenizers`, whatever encoded them, and compared after the tokenizer's own normaliser on both
sides: NFC or lower case is its choice, not our loss. What more can be asked of a tokenizer is found out, not guessed:
`tokenizers` encodes and decodes the probe texts below, and the strictest of three that all of them meet holds for every
document.

- exact: the text comes back. Byte-level BPE and SentencePiece with byte fallback.
- up to one space in front: where `add_prefix_space` puts one before every text.
- lossy: WordPiece and the like, whose unknown token or spaces nobody can undo. There a difference is counted and
  shown by `tokenmill audit`, and fails nothing.

In the sample is a document in 256, by hash of its identity, and the first of each part; of texts of at most 1 MiB, as
long as a part's come to less than 4 MiB, since decoding takes about a second for 5 MB.
"""

from enum import Enum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from tokenmill.manifests.keyed import key64, mix64
from tokenmill.pipeline.tokens.encode import EncodedBatch, Encoder
from tokenmill.pipeline.tokens.tokenizer_json import hide, load, parse, token_ids

ONE_IN = 256
MOST_TEXT_BYTES = 1 << 20
MOST_PART_BYTES = 4 << 20
_SHOWN = 30  # characters on both sides of a difference

PROBES = (
    "Plain words, with punctuation: don't stop! (1,234.50)",
    " a space in front, two  within, and one behind ",
    "\tTabs\tand\n\nempty lines\r\n   indented\n",
    "Ünïcödé: naïve café, “quotes” … ½ ﬁ №",
    "日本語のテキスト。한국어 ไทย हिन्दी",
    "🙂 👩‍👩‍👧 مرحبا עברית e\u0301",
    "def f(x):\n    return [i**2 for i in x]  # <b>&amp;</b>\n",
    "\x00\x7f control\u200bcharacters\ufeff\U0010fffe",
)


class Kept(Enum):
    """What of a text comes back."""

    EXACT = "the text"
    BUT_FIRST_SPACE = "the text up to one space in front"
    LOSSY = "not all of a text"


class Decoder:
    """Decodes what an `Encoder` made and compares.

    Attributes:
        kept: what of a text this tokenizer gives back.
    """

    def __init__(self, tokenizer_json: bytes, encoder: Encoder) -> None:
        """Read the tokenizer.json that `encoder` was made from."""
        value = parse(tokenizer_json)
        control_ids = set(encoder.control_ids.tolist())
        control = {name for name, token in token_ids(value).items() if token in control_ids}
        hide(value, control, control_ids, prefix=f"\U0010ffff{encoder.hash}:")
        self._tokenizer: Tokenizer = load(value)
        self._head, self._tail = int(encoder.policy.prepend_bos), int(encoder.policy.append_eos)
        self.kept = self._probed()

    def _probed(self) -> Kept:
        """The strictest that all probes meet."""
        encoded = self._tokenizer.encode_batch_fast(list(PROBES), add_special_tokens=False)
        pairs = [self._pair(text, encoding.ids) for text, encoding in zip(PROBES, encoded, strict=True)]
        return next(kept for kept in Kept if all(_meets(kept, *pair) for pair in pairs))

    def _pair(self, text: str, ids: list[int]) -> tuple[str, str]:
        """The text and what comes back, both normalised where they differ."""
        found: str = self._tokenizer.decode(ids, skip_special_tokens=False)
        if found == text or (normalizer := self._tokenizer.normalizer) is None:
            return text, found
        return normalizer.normalize_str(text), normalizer.normalize_str(found)

    def difference(self, text: str, ids: list[int]) -> str | None:
        """How the decoded ids of a document, BOS and EOS among them, differ from its text; None where they do not."""
        expected, found = self._pair(text, ids[self._head : len(ids) - self._tail])
        if _meets(Kept.EXACT if self.kept is Kept.LOSSY else self.kept, expected, found):
            return None
        at = next(
            (i for i, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b),
            len(min(expected, found, key=len)),
        )
        near = slice(max(0, at - _SHOWN), at + _SHOWN)
        return f"from character {at} on: expected {expected[near]!r}, found {found[near]!r}"


def _meets(kept: Kept, expected: str, found: str) -> bool:
    if kept is Kept.BUT_FIRST_SPACE:
        return expected.removeprefix(" ") == found.removeprefix(" ")
    return kept is Kept.LOSSY or expected == found


class PartRoundTrip:
    """The sample of one part.

    Attributes:
        documents: looked at.
        differing: of these, those of a lossy tokenizer that came back as another text.
    """

    def __init__(self, decoder: Decoder, part: str) -> None:
        self._decoder = decoder
        self._part = part
        self._key = key64("round_trip", part)
        self._bytes = 0
        self.documents = 0
        self.differing = 0

    def check(self, rows: npt.NDArray[np.int32], texts: pa.LargeStringArray, encoded: EncodedBatch) -> None:
        """Look at those of some documents that are in the sample.

        Args:
            rows: int32[n], their rows in the part.
            texts: of the same documents.
            encoded: what `Encoder.encode` made of the texts.

        Raises:
            ValueError: a document's text does not come back; names it, and the first difference.
        """
        sizes = np.asarray(pc.binary_length(texts))
        short = sizes <= MOST_TEXT_BYTES
        chosen = mix64(rows.astype(np.uint64), self._key) % np.uint64(ONE_IN) == 0
        if not self.documents:
            chosen[np.flatnonzero(short)[:1]] = True
        for i in np.flatnonzero(chosen & short).tolist():
            if self._bytes >= MOST_PART_BYTES:
                return
            self._look_at(int(rows[i]), texts[i].as_py(), encoded.tokens[encoded.offsets[i] : encoded.offsets[i + 1]])
            self._bytes += int(sizes[i])

    def _look_at(self, row: int, text: str, tokens: npt.NDArray[np.integer]) -> None:
        self.documents += 1
        difference = self._decoder.difference(text, tokens.tolist())
        if difference is None:
            return
        if self._decoder.kept is not Kept.LOSSY:
            raise ValueError(
                f"document {self._part}:{row} does not come back from its {len(tokens)} tokens, {difference}; with "
                f"this tokenizer all probes give {self._decoder.kept.value} back, so encoding or memory is at fault: "
                "run again, and report it if it stays"
            )
        self.differing += 1
