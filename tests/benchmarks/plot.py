"""The picture of step times over K and over the number of parameters."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np

from tests.benchmarks import problems, sections
from tests.benchmarks.bounds import Result


def save(results: Sequence[Result], path: str) -> None:
    """Saves the measured step times with their lines; leaves out what was not measured."""
    over = {
        "time_over_losses": ("losses K", sections.LOSSES),
        "time_over_parameters": ("million parameters", [problems.dense(w).parameters / 1e6 for w in sections.WIDTHS]),
    }
    found = [result for result in results if result.bound.name in over and result.value is not None]
    figure, axes = plt.subplots(1, max(1, len(found)), figsize=(4.5 * max(1, len(found)), 3.2), squeeze=False)
    for result, axis in zip(found, axes[0], strict=False):
        label, positions = over[result.bound.name]
        times = list(result.numbers.values())
        line = np.poly1d(np.polyfit(positions, times, 1))
        axis.plot(positions, line(positions), color="0.7", label=f"line, R² = {result.value:.3f}")
        axis.plot(positions, times, "o", label="per-loss step")
        axis.set(xlabel=label, ylabel="ms", ylim=(0, None))
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
