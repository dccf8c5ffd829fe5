# SPDX-License-Identifier: Apache-2.0
"""The search for the weight scale with the least squared error: exactly, or as well as that in seconds.

A scale s turns a magnitude w into q = round(w / s), clipped to 0 ... high. As s falls from infinity, each q
steps from k - 1 to k at its break point s = w / (k - 0.5). Between two break points q is constant; the best
scale for it is P / S with P = sum(w q) and S = sum(q q), and the error is sum(w w) - P^2 / S.

`exact_scales` passes all break points, n * high for n weights. `search_scales` passes those in the range in
which the optimum lies. Two bounds of the range are certain:

* halving a scale and doubling every q changes nothing, so some best scale has its largest q above high / 2;
* weights above high * s lose at least w - high * s, which alone must not exceed an error already seen.

Where integers have many levels and channels are long, the range is narrowed further to where a grid of
scales comes near the least error, and then to the neighbours of the best point of a finer grid. The first
grid holds every scale that puts the channel's largest weight on an integer, so that weights which already are
multiples of one number are found again exactly. How near is near follows from the noise of the error, a sum
of n squared rounding errors.
"""

import numpy as np

from common.arrays import Array, Floats

MIN_CHANNEL = 64
"""Weights of a channel from which the grid narrows the range; shorter channels are cheap to pass whole."""

LONG_CHANNEL = 256
"""Weights of a channel from which a finer grid narrows the range to the neighbours of its best point."""

MIN_HIGH = 15
"""Largest integer weight from which the grid narrows the range; few levels have few break points."""

_BLOCK = 1 << 16  # values of a block of channels: it stays in the processor's cache
_ON_GRID = 1e-8  # mean squared error in squares of a step, at most, of weights that lie on a grid
_FINE_STEP = 0.06  # mean movement of weights / scale from a point of the finer grid to the next
_CLIPPED_STEP = 0.985  # ratio of a scale of the grid to the next, where the largest weights are clipped
_LEVEL_BITS = 7  # of the mantissa of a break point, which carry its level; 2^-45 of its value
_LEVEL_MASK = np.int64((1 << _LEVEL_BITS) - 1)


def exact_scales(magnitudes: Floats, high: int, max_break_points: int = 1 << 22) -> Floats:
    """Return the scale with the least squared error of each channel, from all break points.

    Args:
        magnitudes: (K, n) float64, none negative.
        high: the largest integer.
        max_break_points: that are looked at together, which bounds the memory: about 50 bytes for each.

    Returns:
        (K,) float64; 0 for channels of zeros.
    """
    scales = np.zeros(len(magnitudes))
    size = max(1, max_break_points // (high * magnitudes.shape[1]))
    for start in range(0, len(magnitudes), size):
        scales[start : start + size] = _pass_all(magnitudes[start : start + size], high)
    return scales


def _pass_all(magnitudes: Floats, high: int) -> Floats:
    levels = np.arange(1, high + 1)
    steps = (magnitudes[:, :, None] / (levels - 0.5)).reshape(len(magnitudes), -1)
    order = np.argsort(-steps, axis=1, kind="stable")
    weight, level = np.divmod(order, high)
    products = np.take_along_axis(magnitudes, weight, axis=1).cumsum(axis=1)  # sum(w q) after every step
    squares = (2 * level + 1).cumsum(axis=1)  # sum(q q): k^2 - (k - 1)^2 = 2 k - 1, and level is k - 1
    best = (products**2 / squares).argmax(axis=1)
    channel = np.arange(len(magnitudes))
    scales: Floats = products[channel, best] / squares[channel, best]
    return scales


def search_scales(magnitudes: Floats, high: int) -> Floats:
    """Return a scale of each channel whose squared error is the least, or within 1 % of it.

    Arguments and result: as `exact_scales`.
    """
    scales = np.zeros(len(magnitudes))
    nonzero = np.flatnonzero(magnitudes.any(axis=1))
    size = max(1, _BLOCK // magnitudes.shape[1])
    for start in range(0, len(nonzero), size):
        chosen = nonzero[start : start + size]
        block = magnitudes[chosen]
        scales[chosen] = _polish(block, _best_between(block, high, *scale_range(block, high)), high)
    return scales


def break_points(magnitudes: Floats, high: int, lowest: Floats, highest: Floats) -> Array:
    """Return how many break points of each channel lie between two scales, (K,) int64."""
    first, last = (_levels(magnitudes, scales, high) for scales in (highest, lowest))
    counts: Array = (last - first).sum(axis=1)
    return counts


def _levels(magnitudes: Floats, scales: Floats, high: int) -> Array:
    """Return round(w / s), halves up, at most high: (K, n) int64."""
    quotients = magnitudes / scales[:, None]
    quotients += 0.5
    return np.minimum(quotients, high).astype(np.int64)


# ------------------------------------------------------------------------------------------------- the range
def scale_range(magnitudes: Floats, high: int) -> tuple[Floats, Floats]:
    """Return the (lowest, highest) scale between which the best of each channel is looked for, (K,) each.

    Args:
        magnitudes: (K, n) float64, none negative, no channel of zeros.
        high: the largest integer.
    """
    largest = magnitudes.max(axis=1)
    relative = (magnitudes / largest[:, None]).astype(np.float32)
    # `quotients` are largest / scale: how many steps the largest weight spans.
    narrowing = high >= MIN_HIGH and relative.shape[1] >= MIN_CHANNEL
    quotients, errors, lowest = _grid(relative, high, narrowing)
    highest = np.full(len(relative), (high + 1) // 2 - 0.5)
    if narrowing:
        rounded = np.count_nonzero(relative * np.float32(high) > 0.5, axis=1)
        near = errors <= errors.min(axis=0) * (1 + _margin(rounded))
        # Where all weights lie on a grid, the coarsest such grid will do.
        on_grid = errors * quotients[:, None] ** 2 <= _ON_GRID * relative.shape[1]
        near = np.where(on_grid.any(axis=0), on_grid & (on_grid.cumsum(axis=0) == 1), near)
        last = len(quotients) - 1
        first_near = near.argmax(axis=0)
        last_near = last - near[::-1].argmax(axis=0)
        highest = np.maximum(highest, quotients[np.maximum(first_near - 1, 0)])
        lowest = np.minimum(lowest, quotients[np.minimum(last_near + 1, last)])
        long = np.flatnonzero(rounded >= LONG_CHANNEL)
        if long.size:
            chosen = slice(None) if long.size == len(relative) else long
            highest[chosen], lowest[chosen] = _around_best(
                relative[chosen], high, highest[chosen], lowest[chosen], rounded[chosen]
            )
    # A hair wider, so that a break point at a bound is inside.
    return largest / lowest * (1 - 1e-9), largest / highest * (1 + 1e-9)


def _margin(weights: Array) -> Floats:
    """Return by how much a grid point's error may exceed the least and still be near an optimum, (K,).

    Args:
        weights: (K,) how many weights of each channel are more than half a step.

    The square of a rounding error, uniform in a step, has a standard deviation of sqrt(0.8) of its mean. The
    margin is seven deviations of the mean of all, five for long channels, whose error is more even, and 3 %
    for what the error changes between points.
    """
    deviations = np.where(weights < LONG_CHANNEL, 7, 5)
    return np.where(weights < MIN_CHANNEL, 1e30, 0.03 + deviations * np.sqrt(0.8 / np.maximum(weights, 1)))


def _grid(relative: Array, high: int, fine: bool) -> tuple[Floats, Floats, Floats]:
    """Return quotients of a grid (G,), errors there (G, K), and quotients that are certainly too large (K,).

    Args:
        relative: (K, n) float32, magnitudes over the channel's largest.
        high: the largest integer.
        fine: whether the grid must show where the least error lies; else it gives only a bound for it.
    """
    step = (high + 1) / 128
    upper = np.arange((high + 1) // 2, high + step / 2, step) if fine else np.array([float(high)])
    quotients = list(upper)
    errors = [_error(relative, quotient, high) for quotient in upper]
    least = np.minimum.reduce(errors)
    too_large = np.full(len(relative), np.inf)
    quotient = float(high)
    shrink = _CLIPPED_STEP if fine else 0.9
    while not np.isfinite(too_large).all():
        quotient /= shrink
        excess = np.maximum(relative - np.float32(high / quotient), 0)
        clipped = np.vecdot(excess, excess)
        too_large[np.isinf(too_large) & (clipped >= least)] = quotient
        quotients.append(quotient)
        errors.append(_error(relative, quotient, high))
        least = np.minimum(least, errors[-1])
    return np.array(quotients), np.array(errors), too_large


def _around_best(
    relative: Array, high: int, first: Floats, last: Floats, rounded: Array
) -> tuple[Floats, Floats]:
    """Return the neighbours of the best point of a finer grid of quotients from `first` to `last`.

    From one of its points to the next the weights move by `_FINE_STEP` steps on average, so that the errors
    of neighbours nearly agree. `rounded` counts the weights of each channel that are above half a step.
    """
    ratio = last / first
    movement = np.log(ratio) * np.minimum(relative.sum(axis=1) / rounded * last, high)
    count = int(np.ceil(movement.max() / _FINE_STEP)) + 2
    grid = first * ratio ** np.linspace(0, 1, count)[:, None]
    best = np.array([_error(relative, quotients, high) for quotients in grid]).argmin(axis=0)
    channel = np.arange(len(relative))
    return grid[np.maximum(best - 1, 0), channel], grid[np.minimum(best + 1, count - 1), channel]


def _error(relative: Array, quotient: float | Floats, high: int) -> Floats:
    """Return each channel's squared error, over the square of its largest weight, at one or K quotients."""
    scaled = relative * (
        np.float32(quotient) if isinstance(quotient, float) else quotient[:, None].astype(np.float32)
    )
    integers = np.rint(scaled)
    if np.max(quotient) > high:
        np.minimum(integers, np.float32(high), out=integers)
    scaled -= integers
    errors: Floats = np.vecdot(scaled, scaled) / np.square(quotient, dtype=np.float64)
    return errors


# ----------------------------------------------------------------------------------------------- the optimum
def _best_between(magnitudes: Floats, high: int, lowest: Floats, highest: Floats) -> Floats:
    """Return the best scale of each channel whose integers are those of a scale in its range."""
    first, last = (_levels(magnitudes, scales, high) for scales in (highest, lowest))
    counts = last - first
    totals = counts.sum(axis=1)
    inverses = np.full((len(magnitudes), int(totals.max()) + 1), np.inf)
    inverses[:, 0] = 0.0  # the integers of the highest scale, before the first break point
    # Each weight's levels, first + 1 ... last, side by side in its channel's row.
    flat_counts = counts.ravel()
    level = np.arange(1, int(totals.sum()) + 1)
    ends = flat_counts.cumsum()
    level += np.repeat(first.ravel() - (ends - flat_counts), flat_counts)
    inverse = (level - 0.5) / np.repeat(magnitudes.ravel(), flat_counts)
    packed = (inverse.view(np.int64) & ~_LEVEL_MASK) | level
    inside = np.arange(1, inverses.shape[1]) <= totals[:, None]
    inverses[:, 1:][inside] = packed.view(np.float64)
    inverses.sort(axis=1)
    levels = inverses.view(np.int64) & _LEVEL_MASK
    squares = 2 * levels - 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        products = (levels - 0.5) / inverses
    products[:, 0] = (magnitudes * first).sum(axis=1)
    squares[:, 0] = (first * first).sum(axis=1)
    padding = np.isinf(inverses)
    products[padding] = 0
    squares[padding] = 0
    products.cumsum(axis=1, out=products)
    squares.cumsum(axis=1, out=squares)
    with np.errstate(divide="ignore", invalid="ignore"):
        gains = np.where(squares > 0, products**2 / squares, 0)
    best = gains.argmax(axis=1)
    channel = np.arange(len(magnitudes))
    scales: Floats = products[channel, best] / squares[channel, best]
    return scales


def _polish(magnitudes: Floats, scales: Floats, high: int, rounds: int = 4) -> Floats:
    """Return the scales after rounds of: nearest integers for the scales, best scales for the integers."""
    for _ in range(rounds):
        integers = np.minimum(np.rint(magnitudes / scales[:, None]), high)
        squares = (integers * integers).sum(axis=1)
        better = (magnitudes * integers).sum(axis=1) / squares
        if (better == scales).all():
            break
        scales = better
    return scales
