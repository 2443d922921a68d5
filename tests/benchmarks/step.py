"""The step's numbers side by side, each with its bound and whether it holds, as a Markdown table.

python -m tests.benchmarks.step --check
python -m tests.benchmarks.step --only=keras_mlp,payload
python -m tests.benchmarks.step --torch_python=/path/to/python --jax_python=/path/to/python
python -m tests.benchmarks.step --plot=.github/step_time.png

Contenders take turns in rounds, each idle while another is measured; a ratio is one of medians. A bound that does not
hold is measured again, three times at most. TorchJD and JAX need the extra `benchmark`, in this Python or others.
"""

from collections.abc import Sequence

from absl import app, flags

from tests.benchmarks import plot, sections, table

_PLOT = flags.DEFINE_string("plot", None, "Where to save the picture of step times over K and over parameters.")


def main(argv: Sequence[str]) -> None:
    """Prints the table; progress goes to standard error."""
    del argv
    results = table.run(sections.sections)
    if _PLOT.value:
        plot.save(results, _PLOT.value)
    table.check(results)


if __name__ == "__main__":
    app.run(main)
