"""py3langid's scores of texts and of lines in them, from one walk over their bytes.

The model's table (28 MB) and automaton (39 MB) lie outside the caches, so the time goes into waiting for memory. Hence
eight texts walk side by side, each waiting for its own next state, and a table row that a line has met is not fetched
again for the text: the text's sum is that of its scored lines, plus (weight of the feature's count in the text - sum of
its weights in those lines) for the features where the two differ.

A line scored by itself begins in the automaton's first state, but within the text in the state that the bytes before
led to. After a few bytes both are in the same state, since no feature is long; the walk is shared from there on.

Weights and tables are whole numbers and sums are int64, so they are exact in any order.
"""

import math

import numpy as np
from numba import njit

from tokenmill.filters.softmax import normalise, pick_clear, pick_three
from tokenmill.kernels import allocating_helper, helper

_LANES = 8
_LINE_BREAK = 10


@njit(nogil=True, cache=True)
def identify(text, automaton, scoring, lines, found):  # type: ignore[no-untyped-def]
    """The three best columns of every text and the best of every line asked for.

    Args:
        text: uint8 bytes of n texts; n + 1 int64 offsets.
        automaton: next_state, state_row, state_feature of a LanguageModel.
        scoring: its table, prior; int64 first column of each column's label; int64 weight of each count; `POWERS`;
            the margin of `pick_clear`; the value of one unit of a sum.
        lines: n + 1 int64 offsets into the numbers (from 0, rising) of the lines of each text to score.
        found: columns (n, 3) and scores (n, 3), untouched for a text without a feature; best column of each line, -1.
    """
    data, offsets = text
    line_offsets, numbers = lines
    columns, scores, best = found
    table, prior, first_column = scoring[0], scoring[1], scoring[2]
    states = np.empty(len(data), np.uint32)
    _walk(data, offsets, automaton[0], automaton[1], states)
    num_features = table.shape[0]
    work = (
        np.zeros(num_features, np.int32),  # counts in the text
        np.zeros(num_features, np.int64),  # credit: weights in the lines scored
        np.zeros(num_features, np.bool_),  # seen: in `met`
        np.empty(num_features, np.int32),  # met
        np.zeros(num_features, np.int32),  # own: counts in the line
        np.empty(num_features, np.int32),  # own_met
    )
    total, line_sum = np.empty(len(prior), np.int64), np.empty(len(prior), np.int64)
    posterior = np.empty(len(prior), np.float64)
    spare = (np.empty(3, np.int32), np.empty(3, np.float64))
    for row in range(len(offsets) - 1):
        first, last = offsets[row], offsets[row + 1]
        total[:] = 0
        num_met, line, start = 0, 0, first
        for wanted in range(line_offsets[row], line_offsets[row + 1]):
            while line < numbers[wanted]:
                end = _line_end(data, start, last) + 1
                num_met = _count(states[start:end], automaton[2], work, num_met)
                line, start = line + 1, end
            end = _line_end(data, start, last)
            state = states[start - 1] if start > first else np.uint32(0)
            num_met, num_own = _count_line(data[start:end], states[start:end], state, automaton, work, num_met)
            if num_own:
                line_sum[:] = 0
                num_met = _add_line(table, scoring[3], work, num_own, num_met, line_sum)
                for column in range(len(total)):
                    total[column] += line_sum[column]
                best[wanted] = _best(line_sum, 1.0 / math.sqrt(end - start), scoring, posterior, spare)
            start = end
        num_met = _count(states[start:last], automaton[2], work, num_met)
        if _add_rest(table, scoring[3], work, num_met, total):
            _log_posterior(total, scoring[6], prior, posterior)
            normalise(posterior, 1.0 / math.sqrt(last - first), first_column, scoring[4])
            pick_three(posterior, first_column, columns[row], scores[row])


@allocating_helper
def _walk(data, offsets, next_state, state_row, states):  # type: ignore[no-untyped-def]
    """The state after every byte, each text from the first state; _LANES texts side by side."""
    at, end = np.empty((2, _LANES), np.int64)
    state = np.empty(_LANES, np.uint32)
    row, active = 0, 0
    while True:
        while active < _LANES and row < len(offsets) - 1:
            if offsets[row] < offsets[row + 1]:
                at[active], end[active], state[active] = offsets[row], offsets[row + 1], 0
                active += 1
            row += 1
        if active == 0:
            return
        steps = end[0] - at[0]
        for lane in range(1, active):
            steps = min(steps, end[lane] - at[lane])
        for step in range(steps):
            for lane in range(active):
                place = np.uint64(at[lane] + step)
                cell = (np.uint64(state_row[state[lane]]) << np.uint64(8)) + np.uint64(data[place])
                state[lane] = next_state[cell]
                states[place] = state[lane]
        lane = 0
        while lane < active:
            if at[lane] + steps < end[lane]:
                at[lane] += steps
                lane += 1
            else:
                active -= 1
                at[lane], end[lane], state[lane] = at[active], end[active], state[active]


@helper
def _line_end(data, start, last):  # type: ignore[no-untyped-def]
    while start < last and data[start] != _LINE_BREAK:
        start += 1
    return start


@helper
def _count(states, state_feature, work, num_met):  # type: ignore[no-untyped-def]
    """Count the features of a stretch of the text; how many are in `met`, where those not met before go."""
    counts, _, seen, met, _, _ = work
    for state in states:
        feature = state_feature[state]
        if feature >= 0:
            if not seen[feature]:
                seen[feature] = True
                met[num_met] = feature
                num_met += 1
            counts[feature] += 1
    return num_met


@helper
def _count_line(line, states, state, automaton, work, num_met):  # type: ignore[no-untyped-def]
    """Count a line's features as its own, for `_add_line` to add to the text's; lengths of `met` and `own_met`.

    `state` is the text's before the line. Until both are in the same state, the text's features are counted at once,
    and the line's own, which are none of the text's, taken off in advance.
    """
    next_state, state_row, state_feature = automaton
    counts, _, _, _, own, own_met = work
    num_own, at, alone = 0, 0, np.uint32(0)
    while at < len(line) and alone != state:
        state, alone = states[at], next_state[(np.int64(state_row[alone]) << 8) + line[at]]
        if alone == state:
            break
        num_met = _count(states[at : at + 1], state_feature, work, num_met)
        feature = state_feature[alone]
        if feature >= 0:
            num_own = _count_own(feature, own, own_met, num_own)
            counts[feature] -= 1
        at += 1
    for i in range(at, len(line)):
        feature = state_feature[states[i]]
        if feature >= 0:
            num_own = _count_own(feature, own, own_met, num_own)
    return num_met, num_own


@helper
def _count_own(feature, own, own_met, num_own):  # type: ignore[no-untyped-def]
    if own[feature] == 0:
        own_met[num_own] = feature
        num_own += 1
    own[feature] += 1
    return num_own


@helper
def _add_line(table, weights, work, num_own, num_met, line_sum):  # type: ignore[no-untyped-def]
    """Sum a line's features into `line_sum` (all 0), hand its counts to the text; how many are in `met`."""
    counts, credit, seen, met, own, own_met = work
    num_once = 0
    for i in range(num_own):
        feature = own_met[i]
        weight = weights[own[feature]]
        if own[feature] == 1:
            own_met[num_once] = feature
            num_once += 1
        else:
            features = table[feature]
            for column in range(len(line_sum)):
                line_sum[column] += weight * features[column]
        if not seen[feature]:
            seen[feature] = True
            met[num_met] = feature
            num_met += 1
        counts[feature] += own[feature]
        credit[feature] += weight
        own[feature] = 0
    _add_rows(table, weights[1], own_met[:num_once], line_sum)
    return num_met


@helper
def _add_rest(table, weights, work, num_met, total):  # type: ignore[no-untyped-def]
    """Bring the sum of the scored lines to that of the text and clear its counts; whether it has any feature."""
    counts, credit, seen, met, _, _ = work
    any_feature, num_once = False, 0
    for i in range(num_met):
        feature = met[i]
        weight = weights[counts[feature]] - credit[feature]
        if weight == weights[1]:
            met[num_once] = feature
            num_once += 1
        elif weight != 0:
            features = table[feature]
            for column in range(len(total)):
                total[column] += weight * features[column]
        any_feature |= counts[feature] > 0
        counts[feature], credit[feature], seen[feature] = 0, 0, False
    _add_rows(table, weights[1], met[:num_once], total)
    return any_feature


@allocating_helper
def _add_rows(table, weight, features, total):  # type: ignore[no-untyped-def]
    """Add `weight` times the rows of `features`, four at once: they wait for memory together.

    Most features are met once. Values are below 2^13 and features fewer than 2^16, so int32 holds the sum of the rows.
    """
    sums = np.zeros(len(total), np.int32)
    whole = len(features) // 4 * 4
    for i in range(0, whole, 4):
        a, b, c, d = table[features[i]], table[features[i + 1]], table[features[i + 2]], table[features[i + 3]]
        for column in range(len(sums)):
            sums[column] += (np.int32(a[column]) + b[column]) + (np.int32(c[column]) + d[column])
    for i in range(whole, len(features)):
        row = table[features[i]]
        for column in range(len(sums)):
            sums[column] += row[column]
    for column in range(len(total)):
        total[column] += weight * sums[column]


@helper
def _log_posterior(sums, unit, prior, posterior):  # type: ignore[no-untyped-def]
    """The prior and what the features say."""
    for column in range(len(posterior)):  # an assignment of slices, or a sum of arrays, takes seconds to compile
        posterior[column] = sums[column] * unit + prior[column]


@helper
def _best(line_sum, scale, scoring, posterior, spare):  # type: ignore[no-untyped-def]
    """The best column of a line with this sum."""
    _, prior, first_column, _, powers, margin, unit = scoring
    _log_posterior(line_sum, unit, prior, posterior)
    best = pick_clear(posterior, scale, first_column, margin)
    if best < 0:
        normalise(posterior, scale, first_column, powers)
        pick_three(posterior, first_column, spare[0], spare[1])
        best = spare[0][0]
    return best
