"""From logits to tokens, for a whole batch of rows at a time, in numpy.

The order is llama.cpp's: biases, penalties, what is forbidden, top-k, top-p, min-p, temperature.
llama.cpp's own sampler chain first copies each row into an array of (id, logit, p) triples, one
row after another; the rows of a batch are better reduced together (see lab/NOTES.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from runtime.engine.rows import Rows

# Columns per block when looking for the top k: the maxima of the blocks are found in
# one vectorized pass, and the k largest logits can only be in the k blocks with the
# largest maxima.
_BLOCK = 64
# Rows that are turned into float64 log-probabilities at once.
_ROWS_SCORED = 32


@dataclass(frozen=True)
class SamplingParams:
    """How to pick tokens, and when to stop."""

    temperature: float = 0.0  # 0 picks the most likely token
    top_k: int = 0  # keep the k most likely tokens; 0 keeps all
    top_p: float = 1.0  # keep the most likely tokens that together reach this probability
    min_p: float = 0.0  # keep tokens at least this likely, relative to the likeliest
    # Divides the positive and multiplies the negative logits of tokens that are in the prompt or
    # the text so far (CTRL, arXiv:1909.05858); 1 does nothing.
    repetition_penalty: float = 1.0
    penalty_last_n: int = 0  # that penalty applies to this many of the last tokens; 0 is all
    presence_penalty: float = 0.0  # subtracted from logits of tokens that are in the text so far
    frequency_penalty: float = 0.0  # the same, for each time that they are in it
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token, what is added to its logit)
    # No others; () is all. End-of-generation tokens are not excepted.
    allowed_token_ids: tuple[int, ...] = ()
    bad_words: tuple[tuple[int, ...], ...] = ()  # sequences of tokens that must not be written
    min_new_tokens: int = 0  # no end-of-generation token before this many tokens
    max_new_tokens: int = 128
    stop: tuple[str, ...] = ()  # strings that end the text and are cut from it
    stop_token_ids: tuple[int, ...] = ()  # tokens that end the text, and are not in it
    include_stop: bool = False  # keep the string or token that ended the text in it
    show_special: bool = False  # the text has the names of control tokens
    ignore_end: bool = False  # go on after end-of-generation tokens too
    # Report each token's log-probability and this many likeliest rivals; None reports nothing.
    # They are the model's own, before any of the above.
    logprobs: int | None = None

    @property
    def token_ids(self) -> Iterator[int]:
        """All token ids that it names."""
        yield from self.allowed_token_ids
        yield from self.stop_token_ids
        yield from (token for token, _ in self.logit_bias)
        yield from (token for word in self.bad_words for token in word)


@dataclass(frozen=True)
class Draw:
    """How to draw a token from one row of logits."""

    params: SamplingParams
    uniform: float  # the random number, in [0, 1)
    may_end: bool = True  # an end-of-generation token, or one of `stop_token_ids`, may be drawn
    prompt: Sequence[int] = ()  # token ids before the text
    written: Sequence[int] = ()  # token ids of the text so far
    allowed: np.ndarray | None = None  # by a grammar, bool [vocab]; None is all


@dataclass(frozen=True)
class Choice:
    """A token; its log-probability in nats, and (token, log-probability) of the likeliest.

    `rank` is its place among all tokens, the likeliest first, from 1 on; 0 where it was not
    asked for.
    """

    token: int
    logprob: float = float("nan")
    top: tuple[tuple[int, float], ...] = ()
    rank: int = 0


# Stands for a token where none is allowed.
NOTHING = Choice(-1)


def n_likeliest(params: SamplingParams) -> int | None:
    """How many of a row's likeliest tokens one is drawn from; None is the whole row."""
    adjusted = (
        params.repetition_penalty != 1.0
        or params.presence_penalty
        or params.frequency_penalty
        or next(params.token_ids, None) is not None
    )
    if adjusted or params.logprobs is not None:
        return None
    return 1 if params.temperature <= 0 else params.top_k or None


def _adjust(row: np.ndarray, draw: Draw) -> None:
    """Change a row of logits [vocab] as a draw's parameters say, in place."""
    params, written = draw.params, draw.written
    if params.logit_bias:
        tokens, values = zip(*params.logit_bias, strict=True)
        np.add.at(row, np.array(tokens, np.int64), np.array(values, np.float32))
    if params.repetition_penalty != 1.0:
        seen = [*draw.prompt, *written][-params.penalty_last_n :]
        penalize(row, np.array(seen, np.int64), params.repetition_penalty)
    if written and (params.presence_penalty or params.frequency_penalty):
        used, counts = np.unique(np.array(written, np.int64), return_counts=True)
        lower = params.frequency_penalty * counts + params.presence_penalty
        row[used] -= lower.astype(np.float32)
    if params.allowed_token_ids:
        allowed = list(params.allowed_token_ids)
        kept = row[allowed]
        row[:] = -np.inf
        row[allowed] = kept
    for *before, last in params.bad_words:  # a word's last token, where its others were written
        if not before or list(written[-len(before) :]) == before:
            row[last] = -np.inf
    if params.stop_token_ids and not draw.may_end:
        row[list(params.stop_token_ids)] = -np.inf


def penalize(row: np.ndarray, seen: np.ndarray, penalty: float) -> None:
    """Apply a repetition penalty in place to `row` [vocab] for the token ids `seen`."""
    seen = np.unique(seen)
    values = row[seen]
    row[seen] = np.where(values > 0, values / penalty, values * penalty)


def choose(rows: Rows, draws: Sequence[Draw], end_tokens: np.ndarray) -> list[Choice | None]:
    """One token for each row of logits; the only place where tokens are masked and picked.

    None stands for a row that is not numbers: it has NaN in it, or all its logits are alike.
    NOTHING stands for one of which no token is allowed.

    Args:
        rows: [len(draws)]; changed in place. Those of parts of the vocabulary have at least
            `n_likeliest` tokens beside the end tokens.
        draws: how to draw each.
        end_tokens: ids of the end-of-generation tokens, int [n].
    """
    logits = rows.logits
    damaged = set(rows.damaged())
    logits[list(damaged)] = 0
    reported = [row for row, draw in enumerate(draws) if draw.params.logprobs is not None]
    raw = logits[reported]  # before masks and penalties; a copy
    alike: dict[SamplingParams, list[int]] = {}
    for row, draw in enumerate(draws):
        _adjust(logits[row], draw)
        if draw.allowed is None:
            alike.setdefault(draw.params, []).append(row)
    rows.forbid([row for row, draw in enumerate(draws) if not draw.may_end], end_tokens)
    columns = np.zeros(len(draws), np.int64)
    with np.errstate(invalid="ignore"):  # what comes of it is looked at below
        for params, those in alike.items():
            part = logits if len(those) == len(draws) else logits[those]
            columns[those] = sample(part, params, np.array([draws[row].uniform for row in those]))
        for row, draw in enumerate(draws):
            if draw.allowed is not None:
                columns[row] = _sample_allowed(logits[row], draw, draw.allowed)
    tokens = rows.tokens(columns)
    # A single NaN or infinity is the largest of its row, so it is what was chosen.
    chosen = logits[np.arange(len(draws)), columns]
    damaged |= set(np.flatnonzero(np.isnan(chosen) | np.isposinf(chosen)).tolist())
    choices = [Choice(token) for token in tokens.tolist()]
    if reported:
        most = max(draws[row].params.logprobs or 0 for row in reported)
        for row, scored in zip(reported, score(raw, tokens[reported], most), strict=True):
            n_top = draws[row].params.logprobs or 0
            choices[row] = replace(scored, top=scored.top[:n_top])
    for row in np.flatnonzero(np.isneginf(chosen)).tolist():
        choices[row] = NOTHING
    return [None if row in damaged else choice for row, choice in enumerate(choices)]


def _sample_allowed(row: np.ndarray, draw: Draw, allowed: np.ndarray) -> int:
    """A token of those that a grammar allows, often few: row [vocab], allowed bool [vocab]."""
    tokens = np.flatnonzero(allowed)
    if not len(tokens):
        row[0] = -np.inf  # none can be chosen
        return 0
    (place,) = sample(row[None, tokens], draw.params, np.array([draw.uniform]))
    return int(tokens[place])


def score(
    logits: np.ndarray, tokens: Sequence[int] | np.ndarray, n_top: int = 0, ranked: bool = False
) -> list[Choice]:
    """Log-probabilities of given tokens, one for each row: logits [len(tokens), vocab].

    With `ranked` also their ranks, for which a row is read once more.
    """
    found: list[Choice] = []
    for first in range(0, len(tokens), _ROWS_SCORED):
        raw = logits[first : first + _ROWS_SCORED]
        rows = log_softmax(raw)
        tops = top_k_ids(raw, n_top) if n_top else np.empty((len(rows), 0), np.int64)
        for row, token, top in zip(rows, tokens[first:], tops, strict=False):
            likeliest = tuple((int(i), float(row[i])) for i in top)
            rank = 1 + int(np.count_nonzero(row > row[token])) if ranked else 0
            found.append(Choice(int(token), float(row[token]), likeliest, rank))
    return found


def top_k_ids(logits: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k largest of each row: float32 [rows, vocab] -> int64 [rows, k], best first.

    Equal logits among them are ordered by id.
    """
    rows, vocab = logits.shape
    if k <= 0 or k >= vocab:
        return np.argsort(-logits, axis=1, kind="stable")
    n_blocks = vocab // _BLOCK
    if n_blocks <= 2 * k:
        ids = np.broadcast_to(np.arange(vocab), logits.shape)
    else:
        whole = logits[:, : n_blocks * _BLOCK].reshape(rows, n_blocks, _BLOCK)
        maxima = whole.max(axis=2)
        maxima[np.isnan(maxima)] = np.inf  # so that it is chosen, and found
        best = np.argpartition(-maxima, k - 1, axis=1)[:, :k]
        ids = (best[:, :, None] * _BLOCK + np.arange(_BLOCK)).reshape(rows, k * _BLOCK)
        rest = np.broadcast_to(np.arange(n_blocks * _BLOCK, vocab), (rows, vocab % _BLOCK))
        ids = np.sort(np.concatenate([ids, rest], axis=1), axis=1)
    candidates = np.take_along_axis(logits, ids, axis=1)
    return np.take_along_axis(ids, _best_columns(candidates, k), axis=1)


def _best_columns(values: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k largest of each row, best first, the earlier first where two are equal.

    A float's bits, those below the sign turned around where it is set, order as its value does:
    with the column behind them they are keys of which no two are equal, so that the k largest
    can be split off before they are sorted. float32 [rows, n] -> int64 [rows, k].
    """
    n = values.shape[1]
    bits = np.ascontiguousarray(values).view(np.int32)
    bits = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    keys = (bits.astype(np.int64) << 32) | np.arange(n - 1, -1, -1)
    best = np.sort(np.partition(keys, n - k, axis=1)[:, n - k :], axis=1)[:, ::-1]
    return np.asarray(n - 1 - (best & 0xFFFFFFFF))


def probabilities(logits: np.ndarray, params: SamplingParams) -> tuple[np.ndarray, np.ndarray]:
    """Candidate ids and their probabilities, best first: two arrays [rows, candidates]."""
    ids = top_k_ids(logits, params.top_k)
    kept = np.take_along_axis(logits, ids, axis=1).astype(np.float64)
    if params.top_p < 1.0:
        p = _softmax(kept)
        # A token stays while those before it have not reached top_p yet.
        before = np.cumsum(p, axis=1) - p
        kept = np.where(before < params.top_p, kept, -np.inf)
    if params.min_p > 0:
        kept = np.where(kept >= kept[:, :1] + np.log(params.min_p), kept, -np.inf)
    return ids, _softmax(kept / params.temperature)


def sample(logits: np.ndarray, params: SamplingParams, uniforms: np.ndarray) -> np.ndarray:
    """A column per row: logits [rows, columns], uniforms [rows] in [0, 1) -> columns [rows]."""
    if params.temperature <= 0:
        return np.asarray(logits.argmax(axis=1))
    ids, p = probabilities(logits, params)
    cumulative = np.cumsum(p, axis=1)
    pick = (cumulative <= uniforms[:, None] * cumulative[:, -1:]).sum(axis=1)
    return np.asarray(ids[np.arange(len(ids)), pick])


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities, float64 [rows, vocab], of logits of that shape."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
