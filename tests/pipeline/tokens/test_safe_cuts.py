import itertools
import random
import string

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.kernels import kernel
from tokenmill.pipeline.tokens.safe_cuts import joined_pairs, safe_end

FEW = "ab. ▁é日本😀"


@kernel
def _all_ends(data, ascii_pairs, bits, ends):  # type: ignore[no-untyped-def]
    at = count = 0
    while at < data.shape[0]:
        at = safe_end(data, at, data.shape[0], ascii_pairs, bits)
        ends[count] = at
        count += 1
    return count


def parts(text: str, pairs: set[tuple[str, str]]) -> list[str]:
    data = np.frombuffer(text.encode(), np.uint8)
    ends = np.zeros(len(data), np.int64)
    count = _all_ends(data, *joined_pairs(pairs), ends)
    return [part.tobytes().decode() for part in np.split(data, ends[:count])[:-1]]


def parts_by_definition(text: str, pairs: set[tuple[str, str]]) -> list[str]:
    found = [text[0]]
    for left, right in itertools.pairwise(text):
        letters = {left, right} <= set(string.ascii_letters)
        if letters or (left.replace(" ", "▁"), right.replace(" ", "▁")) in pairs:
            found[-1] += right
        else:
            found.append(right)
    return found


@given(st.text(FEW, min_size=1), st.sets(st.tuples(st.sampled_from(FEW.replace(" ", "")), st.sampled_from("ab▁日"))))
def test_a_text_is_cut_wherever_no_merge_joins(text: str, pairs: set[tuple[str, str]]):
    found = parts(text, pairs)
    assert "".join(found) == text
    if all(max(pair) < "\x80" or pair == ("▁", "▁") for pair in pairs) and text.isascii():
        assert found == parts_by_definition(text, pairs)
    cuts = np.cumsum([len(part) for part in found])
    assert set(cuts) <= set(np.cumsum([len(part) for part in parts_by_definition(text, pairs)]))


def test_few_cuts_are_missed_among_many_pairs():
    draw = random.Random(5)
    letters = [chr(code) for code in range(0x4E00, 0x4E00 + 2000)]
    pairs = {(draw.choice(letters), draw.choice(letters)) for _ in range(50_000)}
    text = "".join(draw.choices(letters, k=50_000))
    exact = len(parts_by_definition(text, pairs))
    assert 0.92 * exact < len(parts(text, pairs)) <= exact
