"""How certain a share, or a difference, is after a number of tries."""

from __future__ import annotations

from math import comb


def bootstrap(right: int, n: int, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a share.

    Resampling n tries of which a share p went well draws from a binomial distribution, so that
    one is drawn from.
    """
    import numpy as np

    shares = np.random.default_rng(seed).binomial(n, right / n, resamples) / n
    low, high = np.percentile(shares, (2.5, 97.5))
    return float(low), float(high)


def sign_test(gained: int, lost: int) -> float:
    """One-sided p-value: how often chance gains at least `gained` of `gained + lost`."""
    n = gained + lost
    return float(sum(comb(n, k) for k in range(gained, n + 1)) / 2**n)
