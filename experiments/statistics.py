"""The few statistics that the studies use."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from experiments.trial import Array


def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Mean and half-width of Student's t interval for the mean.

    Args:
        values: Independent measurements, one for each seed.
        confidence: The probability that the interval covers the true mean.

    Returns:
        The mean, and half the width; NaN for the width when there is one value only, infinite or
        NaN where the values are too large to be squared or not finite.
    """
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return mean, math.nan
    with np.errstate(over="ignore", invalid="ignore"):  # losses of a training that diverged
        spread = float(np.std(values, ddof=1)) / math.sqrt(count)
    return mean, float(stdtrit(count - 1, (1 + confidence) / 2)) * spread


def plus_minus(values: Sequence[float], form: str, scale: float = 1.0) -> str:
    """The mean with its 95 % interval, as text."""
    mean, half = interval([value * scale for value in values])
    return f"{mean:{form}}" + ("" if math.isnan(half) else f" ± {half:{form}}")


def over(seeds: int) -> str:
    """What the ± of :func:`plus_minus` is, as a sentence for the note of a table."""
    return f"± is the 95 % t interval over {seeds} seeds." if seeds > 1 else "One seed."


def relative_difference(a: Array, b: Array) -> Array:
    """Elementwise ``|a - b| / max(|a|, |b|)``; 0 where both are equal, also when both are NaN."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    scale = np.maximum(np.abs(a), np.abs(b))
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = np.abs(a - b) / scale
    return np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))
