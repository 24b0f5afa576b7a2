"""How far a judge model and the rules agree: Cohen's kappa, with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.records import Agreement

_RESAMPLES = 2_000
_PERCENTILES = (2.5, 97.5)
_SEED = 0


def agreement(verdicts: Sequence[tuple[bool, bool]]) -> Agreement | None:
    """Cohen's kappa of two judges with its 95 % percentile bootstrap interval.

    Verdicts are whether the model and whether the rules call an answer right. Without any the
    result is None; the kappa is None where it is undefined (see `Agreement`).
    """
    n = len(verdicts)
    if not n:
        return None
    # Both right, only the model, only the rules, neither.
    counts = np.bincount([2 * (not model) + (not rules) for model, rules in verdicts], minlength=4)
    drawn = np.random.default_rng(_SEED).multinomial(n, counts / n, _RESAMPLES)
    (kappa,) = _kappa(counts[None, :])
    resampled = _kappa(drawn)
    resampled = resampled[~np.isnan(resampled)]
    defined = not np.isnan(kappa)
    low, high = np.percentile(resampled, _PERCENTILES) if defined else (0.0, 0.0)
    return Agreement(
        n=n,
        agree=int(counts[0] + counts[3]),
        kappa=float(kappa) if defined else None,
        low=float(min(low, kappa)) if defined else None,
        high=float(max(high, kappa)) if defined else None,
    )


def _kappa(counts: np.ndarray) -> np.ndarray:
    """Kappas of tables of verdicts, shape (tables, 4); nan where the chance agreement is 1."""
    n = counts.sum(axis=1)  # whole numbers throughout, so that 0 comes out as 0
    model, rules = counts[:, 0] + counts[:, 1], counts[:, 0] + counts[:, 2]
    observed = n * (counts[:, 0] + counts[:, 3])
    chance = model * rules + (n - model) * (n - rules)
    rest = np.where(chance < n * n, n * n - chance, np.nan)
    found: np.ndarray = (observed - chance) / rest
    return found
