"""The table of worked examples: every question's, each configuration run once as a process of its own.

python -m tests.benchmarks.worked_examples
python -m tests.benchmarks.worked_examples --config=linear_heads,weighted_slices
"""

import ast
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from absl import app, flags

CONFIGS = pathlib.Path(__file__).resolve().parent.parent.parent / "configs"
# Question → the configurations that answer its examples, in order.
EXAMPLES = {
    "How can I optimize multiple outputs with varying linear transformations using TF Adam?": (
        "linear_heads",
        "weighted_linear_heads",
        "validation_per_output",
    ),
    "How can TensorFlow models be trained with multiple outputs?": (
        "regression_and_classification",
        "partially_shared",
        "imbalanced_classes",
        "imbalanced_classes_own_loss",
    ),
    "How can multiple loss functions be optimized independently in Keras?": (
        "separate_optimizers",
        "scalar_and_vector",
        "weighted_separate_optimizers",
    ),
    "Can a Keras multi-output model use gradient combinations for multiple loss functions?": (
        "named_outputs",
        "two_regressions",
        "output_shapes",
    ),
    "How can TensorFlow's apply_gradients() function be used with multiple loss functions?": (
        "weighted_slices",
        "averaged_gradients",
        "normalized_gradients",
    ),
    "How can a loss look at several outputs, at an input or at derivatives?": (
        "variational_autoencoder",
        "predicted_variance",
        "differential_equation",
    ),
}

_CONFIG = flags.DEFINE_list("config", None, "Names of configurations to run; default all.")


def run(name: str) -> tuple[dict[str, float], float]:
    """One run as its configuration has it; returns its final validation metrics and the seconds it took."""
    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, "-m", "trainer.main", f"--config=configs/{name}.py", f"--workdir={workdir}"]
        start = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=CONFIGS.parent)
        seconds = time.monotonic() - start
        last = json.loads((pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines()[-1])
    metrics = {key: value for key, value in last.items() if key.count("/") == 1}  # of all examples, not of segments
    return {key: value for key, value in metrics.items() if not key.startswith(("loss/", "labels/"))}, seconds


def summary(name: str) -> str:
    """The first line of a configuration's docstring."""
    return ast.get_docstring(ast.parse((CONFIGS / f"{name}.py").read_text())).splitlines()[0].removesuffix(".")


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) >= 0.001 else f"{value:.1e}"


def main(argv: list[str]) -> None:
    """Prints the table in Markdown, a row as soon as it is known."""
    del argv
    print("| `<name>` | what it shows | held-out result | seconds |\n| --- | --- | --- | ---: |")
    for question, names in EXAMPLES.items():
        chosen = [name for name in names if _CONFIG.value is None or name in _CONFIG.value]
        if chosen:
            print(f"| **{question}** | | | |")
        for name in chosen:
            metrics, seconds = run(name)
            result = ", ".join(f"{key.replace('/', ' ')} {_short(value)}" for key, value in metrics.items())
            print(f"| `{name}` | {summary(name)} | {result} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    app.run(main)
