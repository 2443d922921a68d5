"""Scales of an axis: from values to places in a picture, and the values that it names."""

import dataclasses
import math

import numpy as np

from trainer.output.page import digits

_LARGEST = 1e150  # of a number on an axis; its inverse is the least one that is not 0
_WIDE = 6.0  # a range of positive values over this factor has a logarithmic scale


@dataclasses.dataclass(frozen=True)
class Scale:
    """An axis.

    Attributes:
      low: its lowest value.
      high: its highest value, above `low`.
      start: the place of `low`, in the picture's units.
      end: the place of `high`.
      is_log: equal distances are equal ratios; `low` is above 0 then.
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, values: np.ndarray) -> np.ndarray:
        """Returns the places of values, which are float64; those beyond an end are at that end."""
        values = np.clip(values, self.low, self.high)
        low, high = self.low, self.high
        if self.is_log:
            values, low, high = np.log(values), math.log(low), math.log(high)
        return self.start + (values - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        """Returns the values that the axis names, about `most` of them, and their texts."""
        if self.is_log:
            values = _decades(self.low, self.high, most)
            if len(values) > 1:
                return [(value, _plain(value)) for value in values]
        width = _nice((self.high - self.low) / most)
        first = math.ceil(self.low / width - 1e-9)
        values = [index * width for index in range(first, math.floor(self.high / width + 1e-9) + 1)]
        decimals = max(0, -math.floor(math.log10(width) + 1e-9))
        decimals += not math.isclose(round(width, decimals), width)  # 2.5 has a digit more than 2
        if decimals > 6 or max(abs(self.low), abs(self.high)) >= 1e6:
            return [(value, digits.number(value, 3)) for value in values]
        return [(value, digits.fixed(value, decimals)) for value in values]


def of_values(values: np.ndarray, start: float, end: float, *, can_be_log: bool = True) -> Scale:
    """Returns a scale that shows all finite values, logarithmic where these are positive and lie far apart."""
    values = values[np.isfinite(values)]
    if not values.size:
        return Scale(0.0, 1.0, start, end)
    low, high = (float(np.clip(each, -_LARGEST, _LARGEST)) for each in (values.min(), values.max()))
    if can_be_log and low >= 1 / _LARGEST and high >= _WIDE * low:
        around = (high / low) ** 0.04
        return Scale(low / around, high * around, start, end, is_log=True)
    size = max(abs(low), abs(high))
    around = 0.05 * (high - low) if high - low > 1e-9 * size else 0.1 * size  # nearly one value
    around = around if size >= 1 / _LARGEST else 1.0
    return Scale(low - around, high + around, start, end)


def of_steps(last: float, start: float, end: float) -> Scale:
    """Returns the scale of steps from 0 to the last one."""
    return Scale(0.0, max(last, 1.0), start, end)


def _nice(width: float) -> float:
    """The least of 1, 2, 2.5 and 5 times a power of ten that is not below `width`."""
    power = 10.0 ** math.floor(math.log10(width))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= width * (1 - 1e-9))


def _decades(low: float, high: float, most: int) -> list[float]:
    """Powers of ten within a range, or every second, third, ... where there are many; with their 2 and 5 if few."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first + 1 >= 3:
        every = -(-(last - first + 1) // most)
        return [10.0**power for power in range(first, last + 1) if power % every == 0]
    found = [factor * 10.0**power for power in range(first - 1, last + 1) for factor in (1, 2, 5)]
    found = [value for value in found if low <= value <= high]
    return found if len(found) <= most else found[:: -(-len(found) // most)]


def _plain(value: float) -> str:
    return digits.number(value, 1) if 1e-4 <= value < 1e6 else digits.exponential(value, 0)
