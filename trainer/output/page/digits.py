"""Numbers as a reader wants them: as many digits as say something."""

import math

MISSING = "–"
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


def with_deviation(mean: float | None, deviation: float | None) -> str:
    """Returns `mean ± deviation`, both to the second significant digit of the deviation; the mean without one."""
    if deviation is None or not math.isfinite(deviation) or mean is None or not math.isfinite(mean):
        return number(mean)
    if not deviation or not 1e-6 <= deviation < 1e7 or abs(mean) >= 1e7:
        return f"{number(mean)} ± {number(deviation, 2)}"
    decimals = min(6, max(0, 1 - math.floor(math.log10(deviation))))
    return f"{fixed(mean, decimals)} ± {fixed(deviation, decimals)}"


def percent(share: float | None, decimals: int = 0) -> str:
    """Returns a share between 0 and 1 in percent; a dash where it does not exist."""
    text = fixed(None if share is None else 100 * share, decimals)
    return text if text == MISSING else f"{text} %"


def count(value: int, noun: str) -> str:
    """Returns a number of things in words."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"
