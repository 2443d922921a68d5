"""The step's numbers side by side, each with its bound and whether it holds, as a Markdown table.

python -m tests.benchmarks.step --check
python -m tests.benchmarks.step --only=keras_mlp,payload
python -m tests.benchmarks.step --torch_python=/path/to/python --plot=.github/step_time.png

Contenders take turns in rounds, each idle while another is measured; a ratio is one of medians. A bound that does not
hold is measured again, three times at most. TorchJD needs the extra `benchmark`, in this Python or another.
"""

import shutil
import sys
import textwrap
import time
from collections.abc import Sequence

from absl import app, flags

from tests.benchmarks import bounds, plot, sections
from tests.benchmarks.bounds import Result, Section
from tests.benchmarks.rounds import Workers

_CHECK = flags.DEFINE_boolean("check", False, "Exit with 1 where a bound does not hold.")
_ONLY = flags.DEFINE_list("only", None, "Names of bounds, or of sections; default all.")
_PLOT = flags.DEFINE_string("plot", None, "Where to save the picture of step times over K and over parameters.")
_TORCH_PYTHON = flags.DEFINE_string("torch_python", sys.executable, "A Python with torch and torchjd.")


def main(argv: Sequence[str]) -> None:
    """Prints the table; progress goes to standard error."""
    del argv
    if shutil.which(_TORCH_PYTHON.value) is None:
        raise app.UsageError(f"--torch_python={_TORCH_PYTHON.value} is no program")
    start = time.monotonic()
    workers = Workers(lambda name: sections.start_worker(name, _TORCH_PYTHON.value), _say)
    try:
        results = measure(sections.sections(workers), _ONLY.value)
    finally:
        workers.close()
    _say(f"{time.monotonic() - start:.0f} s")
    if _PLOT.value:
        plot.save(results, _PLOT.value)
    if _CHECK.value and not all(result.holds in (True, None) for result in results):
        sys.exit(1)


def measure(wanted: Sequence[Section], only: Sequence[str] | None = None) -> list[Result]:
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
            own = bounds.evaluate(section, chosen, _say_value)
            print("\n".join(map(row, own)), flush=True)
            results += own
            _say(f"{section.name}: {time.monotonic() - start:.0f} s")
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
    _say(f"{result.bound.name} = {value}{limit}{f', attempt {result.attempts}' if result.attempts > 1 else ''}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    app.run(main)
