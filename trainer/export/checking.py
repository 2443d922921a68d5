"""An export run by its own runtime, in a process of its own, and compared with the trainer."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

import numpy as np

from trainer.common.errors import RunError, first_line
from trainer.export import own_runtime

Arrays = Mapping[str, np.ndarray]

_PROGRAM = pathlib.Path(own_runtime.__file__)
_FULL = 1e-6
_SINGLE = 1e-5  # of what the trainer computes in float64, and the export in float32: an exponential of 10, say
_HALF = 2e-2  # two orders of the sums of a half-precision network differ by several of its 2⁻⁸


def check(
    name: str,
    path: pathlib.Path,
    inputs: Arrays,
    outputs: Arrays,
    precision: str,
    *,
    tolerance: float | None = None,
    needs: Sequence[str] = (),
) -> float:
    """Returns the largest difference between what an export gives and what the trainer does.

    The difference of numbers is relative to the largest of that output, or to 1 where all are smaller. Whole numbers,
    truth values and text must be equal, but for the class of an example whose probabilities do not tell.

    Args:
      name: of the format.
      path: the export.
      inputs: examples, by name; text as bytes objects.
      outputs: what the trainer gives for them, by name.
      precision: of the run.
      tolerance: the largest difference allowed; None: 1e-6; 1e-5 of what the trainer computes in float64 and the
        export in float32; 0.02 where the run is in half precision.
      needs: import paths of layers of the user's own, which Keras needs to load the export.

    Raises:
      RunError: the export cannot be loaded or run, or does not agree.
    """
    given = _run(name, path, inputs, needs)
    if missing := outputs.keys() - given.keys():
        raise _disagreement(name, min(missing), f"is missing among what the export gives, {', '.join(given)}")
    allowed = {each: _allowed(given[each], outputs[each], precision, tolerance) for each in outputs}
    return max((_difference(name, each, given[each], outputs, allowed[each]) for each in outputs), default=0.0)


def _allowed(given: np.ndarray, expected: np.ndarray, precision: str, tolerance: float | None) -> float:
    """The largest difference allowed of an output."""
    if tolerance is not None:
        return tolerance
    if "float16" in precision:
        return _HALF
    return _SINGLE if (given.dtype, expected.dtype) == (np.float32, np.float64) else _FULL


def _run(name: str, path: pathlib.Path, inputs: Arrays, needs: Sequence[str]) -> Arrays:
    """Returns what the export gives for these inputs in a process that has its own runtime only."""
    # A GPU may be wholly this process's, and there the trainer's own numbers would differ from device to device.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if needs:
        environment["PYTHONPATH"] = os.pathsep.join(each or os.getcwd() for each in sys.path)
    with tempfile.TemporaryDirectory(prefix="export_") as temporary:
        folder = pathlib.Path(temporary)
        own_runtime.write(folder / own_runtime.INPUTS, inputs)
        command = [sys.executable, "-P", str(_PROGRAM), name, str(path.absolute()), temporary, *needs]
        ended = subprocess.run(command, env=environment, capture_output=True, stdin=subprocess.DEVNULL, cwd=temporary)
        if ended.returncode == 0:
            return own_runtime.read(folder / own_runtime.OUTPUTS)
        reason = folder / "reason"
        text = reason.read_text("utf-8") if reason.exists() else _end(ended)
    raise RunError(
        f"--format={name}: the export was removed, its own runtime cannot run it: {first_line(Exception(text))}"
    )


def _end(ended: subprocess.CompletedProcess[bytes]) -> str:
    """Returns how a process ended that left no reason."""
    if ended.returncode < 0:
        return f"it ended by {signal.Signals(-ended.returncode).name}"
    last = ended.stderr.decode(errors="backslashreplace").strip().rpartition("\n")[2]
    return f"it ended with exit code {ended.returncode}: {last}"


def _difference(name: str, output: str, given: np.ndarray, outputs: Arrays, tolerance: float) -> float:
    """The largest difference of one output; raises RunError where it is too large."""
    expected = outputs[output]
    if given.shape != expected.shape:
        raise _disagreement(name, output, f"has the shape {given.shape} instead of {expected.shape}")
    if expected.dtype.kind == "f":
        found = _relative(given, expected)
        if not found <= tolerance:
            allowed = f"{tolerance:.2g} (--tolerance)"
            raise _disagreement(name, output, f"differs by {found:.2g} of its largest value, allowed are {allowed}")
        return found
    wrong = (given != expected) & ~_undecided(expected.shape, outputs.get(f"{output}/probability"), tolerance)
    if wrong.any():
        place = tuple(map(int, np.argwhere(wrong)[0]))
        raise _disagreement(name, output, f"is {given[place]!r} instead of {expected[place]!r} at {place}")
    return 0.0


def _relative(given: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest number; infinite where only one of two numbers is finite."""
    if not expected.size:
        return 0.0
    given, expected = given.astype(np.float64), expected.astype(np.float64)
    alike = (given == expected) | (np.isnan(given) & np.isnan(expected))
    finite = np.isfinite(given) & np.isfinite(expected)
    if not (alike | finite).all():
        return float("inf")
    apart = np.where(alike, 0.0, np.abs(np.where(alike, 0.0, given) - np.where(alike, 0.0, expected)))
    return float(apart.max() / np.abs(expected[finite]).max(initial=1.0))


def _undecided(shape: tuple[int, ...], probability: np.ndarray | None, tolerance: float) -> np.ndarray:
    """True where either of two classes may be told, for all that the probabilities say."""
    if probability is None:
        return np.zeros(shape, bool)
    if probability.shape == shape:  # of yes and no
        return np.abs(probability - 0.5) <= tolerance
    if probability.shape[:-1] != shape:
        return np.zeros(shape, bool)
    smaller, larger = np.moveaxis(np.sort(probability, axis=-1)[..., -2:], -1, 0)
    return larger - smaller <= 2 * tolerance


def _disagreement(name: str, output: str, reason: str) -> RunError:
    return RunError(
        f"--format={name}: the export was removed, it does not agree with the trainer: output {output!r} {reason}"
    )
