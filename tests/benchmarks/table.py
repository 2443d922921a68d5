"""The common part of the benchmarks' command lines: their flags, the Markdown table, the check."""

import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Sequence

from absl import app, flags

from tests.benchmarks import bounds, processes
from tests.benchmarks.bounds import Result, Section
from tests.benchmarks.rounds import Workers

_CHECK = flags.DEFINE_boolean("check", False, "Exit with 1 where a bound does not hold.")
_ONLY = flags.DEFINE_list("only", None, "Names of bounds, or of sections; default all.")
_TORCH_PYTHON = flags.DEFINE_string("torch_python", sys.executable, "A Python with the extra `benchmark`.")
_JAX_PYTHON = flags.DEFINE_string("jax_python", sys.executable, "A Python with JAX and optax, of that extra.")


def run(
    wanted: Callable[[Workers], Sequence[Section]],
    torch_packages: Sequence[str] = ("torch", "torchjd"),
    round_seconds: float = 0.3,
) -> list[Result]:
    """Measures what the flags want; progress goes to standard error.

    Args:
      wanted: all sections, their times measured by these workers.
      torch_packages: what a Python must have for PyTorch's side.
      round_seconds: how long a contender's turn takes at least.
    """
    others = {
        "torch": processes.Other(_TORCH_PYTHON.value, torch_packages),
        "jax": processes.Other(_JAX_PYTHON.value, ("jax", "optax")),
    }
    for name, other in others.items():
        if shutil.which(other.python) is None:
            raise app.UsageError(f"--{name}_python={other.python} is no program")
    start = time.monotonic()
    workers = Workers(lambda name: processes.start_worker(name, others), say, round_seconds)
    try:
        results = measure(wanted(workers), _ONLY.value)
    finally:
        workers.close()
    say(f"{time.monotonic() - start:.0f} s")
    return results


def check(results: Sequence[Result]) -> None:
    """With `--check`, exits with 1 where a bound does not hold."""
    if _CHECK.value and not all(result.holds in (True, None) for result in results):
        sys.exit(1)


def measure(
    wanted: Sequence[Section], only: Sequence[str] | None = None, attempts: int = bounds.ATTEMPTS
) -> list[Result]:
    """Measures every bound, or those named, and prints a row of the table as soon as a section is done.

    Raises:
      app.UsageError: a name that is neither a bound's nor a section's.
    """
    names = {name for section in wanted for name in (section.name, *(bound.name for bound in section.bounds))}
    if unknown := set(only or ()) - names:
        raise app.UsageError(f"--only={','.join(sorted(unknown))} must be among {', '.join(sorted(names))}")
    print("| name | what | bound | measured | from | holds |\n| --- | --- | ---: | ---: | --- | --- |")
    results = []
    for section in wanted:
        chosen = [b for b in section.bounds if only is None or section.name in only or b.name in only]
        if chosen:
            start = time.monotonic()
            own = bounds.evaluate(section, chosen, _say_value, attempts)
            print("\n".join(map(row, own)), flush=True)
            results += own
            say(f"{section.name}: {time.monotonic() - start:.0f} s")
    return results


def row(result: Result) -> str:
    """A result as a row of the table."""
    bound = result.bound
    limit = "" if bound.limit is None else f"{bound.sense} {_number(bound.limit, bound.unit)}"
    value = textwrap.shorten(result.reason, 100) if result.value is None else _number(result.value, bound.unit)
    numbers = ", ".join(f"{key} {_number(number, result.unit)}" for key, number in result.numbers.items())
    holds = {None: "not measured", True: "yes" if bound.limit is not None else "", False: "no"}[result.holds]
    return f"| `{bound.name}` | {bound.what} | {limit} | {value} | {numbers} | {holds} |"


def _number(value: float, unit: str) -> str:
    text = f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
    return f"{text} {unit}".strip()


def _say_value(result: Result) -> None:
    value = "?" if result.value is None else _number(result.value, result.bound.unit)
    limit = "" if result.bound.limit is None else f" ({result.bound.sense} {result.bound.limit:.3g})"
    say(f"{result.bound.name} = {value}{limit}{f', attempt {result.attempts}' if result.attempts > 1 else ''}")


def say(line: str) -> None:
    """Progress, to standard error."""
    print(line, file=sys.stderr, flush=True)
