"""The arithmetic in plain Python integers and fractions; shares no code with the package."""

from fractions import Fraction


def wrap(x: int) -> int:
    """The two's complement int32 with the low bits of x."""
    low = x % 2**32
    return low - 2**32 if low >= 2**31 else low


def truncate(numerator: int, denominator: int) -> int:
    """Division towards zero."""
    quotient = abs(numerator) // denominator
    return -quotient if numerator < 0 else quotient


def half_away(value: Fraction) -> int:
    """Rounding to nearest, halves away from zero."""
    rounded = (abs(value) + Fraction(1, 2)).__floor__()
    return -rounded if value < 0 else rounded


def high_mul(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul in words of the gemmlowp source."""
    if a == b == -(2**31):
        return 2**31 - 1
    nudge = 2**30 if a * b >= 0 else 1 - 2**30
    return truncate(a * b + nudge, 2**31)


def rescale(acc: int, bias: int, multiplier: int, shift: int, zero_point: int, low: int, high: int) -> int:
    """The five steps of requantisation."""
    a = wrap(acc + bias)
    a = wrap(a * 2 ** max(shift, 0))
    a = high_mul(a, multiplier)
    a = half_away(Fraction(a, 2 ** max(-shift, 0)))
    return min(max(a + zero_point, low), high)
