"""How sure a share, or a difference, is after a number of tries."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, sqrt

# Standard normal deviate of a two-sided 95 % interval.
_Z = 1.959964


def wilson(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, which is sound for small `n` and at 0 and 1.

    Args:
        right: how many of `n` tries, at least one, went well.
    """
    share = right / n
    middle = (share + _Z * _Z / (2 * n)) / (1 + _Z * _Z / n)
    half = _Z * sqrt(share * (1 - share) / n + _Z * _Z / (4 * n * n)) / (1 + _Z * _Z / n)
    return middle - half, middle + half


def bootstrap(right: int, n: int, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a share.

    Resampling n tries of which a share p went well draws from a binomial distribution, so that
    one is drawn from.
    """
    import numpy as np

    shares = np.random.default_rng(seed).binomial(n, right / n, resamples) / n
    low, high = np.percentile(shares, (2.5, 97.5))
    return float(low), float(high)


def standard_error(differences: Sequence[float]) -> float:
    """The standard error of the mean of paired differences, at least one."""
    n = len(differences)
    mean = sum(differences) / n
    return sqrt(sum((each - mean) ** 2 for each in differences) / n) / sqrt(n)


def sign_test(gained: int, lost: int) -> float:
    """One-sided p-value: how often chance gains at least `gained` of `gained + lost`."""
    n = gained + lost
    return float(sum(comb(n, k) for k in range(gained, n + 1)) / 2**n)
