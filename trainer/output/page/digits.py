"""Numbers as a reader wants them: as many digits as say something."""

import math
from collections.abc import Iterable

MISSING = "–"
PERCENT = "\N{NO-BREAK SPACE}%"
_MINUS = "\N{MINUS SIGN}"


def number(value: float | None, significant: int = 4) -> str:
    """Returns a number with some significant digits; a dash where it does not exist or is not finite."""
    if value is None or not math.isfinite(value):
        return MISSING
    size = abs(value)
    if size and (size < 1e-4 or size >= 1e7):
        return exponential(value, max(0, significant - 2))
    return fixed(value, max(0, significant - 1 - math.floor(math.log10(size))) if size else 0)


def fixed(value: float | None, decimals: int) -> str:
    """Returns a number with some digits after the point; a dash where it does not exist or is not finite."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:,.{decimals}f}"
    return text.replace("-", "" if not float(text.replace(",", "")) else _MINUS)


def exponential(value: float, decimals: int) -> str:
    """Returns a finite number as a power of ten times a number with some digits after the point."""
    mantissa, _, exponent = f"{value:.{decimals}e}".partition("e")
    return f"{mantissa}e{int(exponent)}".replace("-", _MINUS)


def with_deviation(mean: float | None, deviation: float | None, decimals: int | None = None) -> str:
    """Returns `mean ± deviation`, or the mean where there is no deviation.

    Args:
      mean: the one.
      deviation: the other.
      decimals: digits after the point; None for those up to the second significant digit of the deviation.
    """
    if deviation is None or not math.isfinite(deviation) or mean is None or not math.isfinite(mean):
        return number(mean)
    if decimals is None:
        decimals = decimals_of([deviation])
    if decimals is None or abs(mean) >= 1e7:
        return f"{number(mean)} ± {number(deviation, 2)}"
    return f"{fixed(mean, decimals)} ± {fixed(deviation, decimals)}"


def decimals_of(deviations: Iterable[float | None]) -> int | None:
    """Returns how many digits after the point suit values that are compared: those that their deviations leave.

    None where no deviation is of a size that suits such digits.
    """
    known = sorted(each for each in deviations if each is not None and 1e-6 <= each < 1e7)
    return min(6, max(0, 1 - math.floor(math.log10(known[len(known) // 2])))) if known else None


def percent(share: float | None, decimals: int = 0) -> str:
    """Returns a share between 0 and 1 in percent; a dash where it does not exist."""
    text = fixed(None if share is None else 100 * share, decimals)
    return text if text == MISSING else f"{text}{PERCENT}"


def signed(value: float | None, decimals: int | None = None) -> str:
    """Returns a number with its sign, also `+`; `decimals` are those after the point, None for 3 significant digits."""
    text = number(value, 3) if decimals is None else fixed(value, decimals)
    return f"+{text}" if value is not None and value > 0 and text != MISSING else text


def count(value: int, noun: str, several: str | None = None) -> str:
    """Returns a number of things in words; `several` is the noun's plural where that is not made with an s."""
    return f"{value:,} {noun if value == 1 else several or f'{noun}s'}"
