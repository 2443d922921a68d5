"""Reports of a run for machines: `metrics.jsonl` and TensorBoard."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence

import tensorflow as tf

from trainer.combine.registry import Method
from trainer.components.losses import NamedLoss
from trainer.step.values import Measurement, Totals

TRAIN, VALIDATION = "train", "validation"


@dataclasses.dataclass(frozen=True)
class Report:
    """What is known at one step.

    Attributes:
      step: number of steps taken.
      split: "train" or "validation".
      values: flat names → numbers; None where a value does not exist (no label, a gradient of zero).
    """

    step: int
    split: str
    values: Mapping[str, float | None]


def of_totals(
    step: int,
    totals: Totals,
    losses: Sequence[NamedLoss],
    rates: Mapping[str, float],
    *,
    sharing: bool,
    method: Method,
    loss_scale: float | None = None,
) -> Report:
    """Reads the totals of the steps since the last report: the one copy from the devices.

    Args:
      step: number of steps taken.
      totals: the totals.
      losses: the K losses.
      rates: learning rates by the optimizer's name.
      sharing: whether any variable is shared; there are no cosines and weights where none is.
      method: the combination method.
      loss_scale: what losses are multiplied by for their backward passes, where they are.

    Returns:
      `loss/<loss>`: mean over the steps since the last report in which the loss was active; `grad_norm/<loss>` and
      `cosine/<loss>/<loss>`: of the last step that measured them, absent where none has; `weight/<loss>` of that step,
      for methods that find weights; `fallbacks`, in how many steps since the last report a method's problem had no
      solution, for methods of which that can happen; `learning_rate/<optimizer>`; `loss_scale` where given.
    """
    sums, counts = totals.losses.numpy(), totals.counts.numpy()
    names = [loss.name for loss in losses]
    values = {f"loss/{name}": float(sums[k] / counts[k]) if counts[k] else None for k, name in enumerate(names)}
    if bool(totals.measured.measured):
        values |= _norms_and_cosines(totals.measured, names, sharing=sharing)
        if sharing and method.finds_weights:
            values |= _weights(totals.measured, names)
    if method.may_fall_back:
        values["fallbacks"] = int(totals.fallbacks)
    values |= {f"learning_rate/{name}": rate for name, rate in rates.items()}
    if loss_scale is not None:
        values["loss_scale"] = loss_scale
    return Report(step, TRAIN, values)


def _weights(step: Measurement, names: Sequence[str]) -> dict[str, float | None]:
    active, weights = step.active.numpy(), step.weights.numpy()
    return {f"weight/{name}": float(weights[k]) if active[k] else None for k, name in enumerate(names)}


def _norms_and_cosines(step: Measurement, names: Sequence[str], *, sharing: bool) -> dict[str, float | None]:
    active, norms, cosines = step.active.numpy(), step.grad_norms.numpy(), step.cosines.numpy()
    values = {f"grad_norm/{name}": float(norms[k]) if active[k] else None for k, name in enumerate(names)}
    for j, first in enumerate(names if sharing else ()):
        for k, second in enumerate(names[j + 1 :], start=j + 1):
            known = cosines[j, j] > 0 and cosines[k, k] > 0
            values[f"cosine/{first}/{second}"] = float(cosines[j, k]) if known else None
    return values


class JsonLines:
    """Appends each report to a file as one JSON object with flat keys."""

    def __init__(self, path: pathlib.Path):
        self._file = path.open("a")

    def write(self, report: Report) -> None:
        """Writes one line: `step`, `split` and the values; null where a value is missing or not finite."""
        values = {name: value if _is_number(value) else None for name, value in report.values.items()}
        self._file.write(json.dumps({"step": report.step, "split": report.split, **values}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class TensorBoard:
    """Writes each report as scalars, one folder per split so that their curves lie over one another."""

    def __init__(self, directory: pathlib.Path):
        self._writers = {split: tf.summary.create_file_writer(str(directory / split)) for split in (TRAIN, VALIDATION)}

    def write(self, report: Report) -> None:
        """Writes the values that exist."""
        writer = self._writers[report.split]
        with writer.as_default(step=report.step):
            for name, value in report.values.items():
                if value is not None:
                    tf.summary.scalar(name, tf.constant(value, tf.float64))  # float32 overflows
        writer.flush()

    def close(self) -> None:
        """Closes the files."""
        for writer in self._writers.values():
            writer.close()


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
