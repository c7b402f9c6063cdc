"""The slow way: `tokenizers` encodes a whole rendering, and tells which characters each token stands for."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.pipeline.chat.plan import TEMPLATE
from tokenmill.pipeline.chat.segments import WholeText


def encode_whole(
    tokenizer: WholeText, items: npt.NDArray[np.int32], pieces: Sequence[str], names: Mapping[int, str]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int8], npt.NDArray[np.bool_]] | None:
    """Ids, roles and answers of one rendering; None where a control token comes of something else than the template.

    Args:
        tokenizer: as it is.
        items: of the rendering, as a Plan has them.
        pieces: its pieces of text.
        names: of all control tokens, by id.
    """
    rest = iter(pieces)
    owners: list[tuple[int, int]] = []
    controls: list[tuple[int, int, int]] = []
    text = ""
    for control, role, answer in items.tolist():
        if control >= 0:
            controls.append((control, role, answer))
        part = names[control] if control >= 0 else next(rest)
        owners += [(role, answer)] * len(part)
        text += part
    ids, places = tokenizer.encode(text)
    if [token for token in ids if token in names] != [control for control, _, _ in controls]:
        return None
    expected = iter(controls)
    found = [
        next(expected)[1:] if token in names else _owner(owners[start:end] or owners[start : start + 1])
        for token, (start, end) in zip(ids, places, strict=True)
    ]
    roles, answers = ([one[at] for one in found] for at in (0, 1))
    return np.array(ids), np.array(roles, np.int8), np.array(answers, np.bool_)


def _owner(owners: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Role and answer of a token that stands for characters of these."""
    return next((role for role, _ in owners if role != TEMPLATE), TEMPLATE), max((one for _, one in owners), default=0)
