"""Short trainings of a tiny experiment: on this hardware's replicas, on one device, in half precision, compiled."""

import dataclasses
import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.examples import Examples
from trainer.common.errors import reason_of
from trainer.config import loading
from trainer.config.settings import OFF, Config
from trainer.distributed import strategy as strategy_lib
from trainer.run import experiment
from trainer.run.experiment import Experiment
from trainer.selfcheck.outcome import CheckOutcome, Status

# The same numbers are added in another order on several replicas. float64 rounds each sum by 1e-16, float32 by 6e-8 of
# it; plain gradient descent over a few steps lets that grow tenfold or so, while a gradient that is summed twice or not
# at all, or a mean over the wrong number of examples, is off by 1/N.
TOLERANCES = {"float64": 1e-9, "float32": 1e-4}
_WEIGHTS = (1.0, 0.5, 2.0)
_KNOWN = {"label": 0.7, "number": 0.3}  # shares of the labels
_STEPS, _STEPS_TO_FALL = 6, 10


@dataclasses.dataclass(frozen=True)
class Result:
    """The losses and the variables of a short training.

    Attributes:
      losses: (steps, K), NaN where a loss had no label.
      variables: variable name → its value on each replica of this worker.
    """

    losses: np.ndarray
    variables: dict[str, list[np.ndarray]]


def load(examples: int) -> dict[str, Examples]:
    """Classes, a number and a vector of six inputs; most numbers and many classes are unknown."""
    return {"train": _split(examples, 1), "validation": _split(4, 2)}


def config(
    replicas: int,
    precision: str,
    method: str,
    *,
    batches: int,
    compile: str = OFF,
    tensor_float_32: bool = True,
) -> Config:
    """Three losses of one trunk and a batch that the replicas cannot share evenly; `batches` of them are an epoch."""
    batch_size = 3 * replicas + 1
    sgd = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9}
    tree: dict[str, Any] = {
        "precision": precision,
        "batch_size": batch_size,
        "steps": 100,
        "tensor_float_32": tensor_float_32,
        "compile": compile,
        "reduction": "per_loss",
        "combine": {"name": method},
        "dataset": {"name": f"{__name__}:load", "options": {"examples": batches * batch_size}},
        "model": {
            "trunk": [{"layer": "Dense", "units": 8, "activation": "tanh"}],
            "heads": {
                "label": [{"layer": "Dense", "units": 4}],
                "number": [{"layer": "Dense", "units": 1}],
                "vector": [{"layer": "Dense", "units": 3}],
            },
        },
        "losses": {
            "label": {"loss": {"name": "sparse_categorical_crossentropy", "from_logits": True}},
            "number": {"loss": "mse"},
            "vector": {"loss": "mse"},
        },
        "optimizer": sgd,
    }
    for (name, loss), weight in zip(tree["losses"].items(), _WEIGHTS, strict=True):
        loss.update(head=name, target=name, weight=weight)
    return loading.resolve(tree)


def train(built: Experiment, steps: int) -> Result:
    """Takes this number of steps.

    Raises:
      RuntimeError: a step was not finite.
    """
    loop, iterator = built.step.build(), iter(built.batches(0))
    state, losses = built.step.initial_state(), []
    for step in range(steps):
        numbers = (tf.constant(value, tf.int64) for value in (step, 1))
        state, totals = loop(iterator, *numbers, tf.constant(False), state, built.step.initial_totals())
        if int(totals.failed_step) != -1:
            raise RuntimeError(f"step {step + 1}: a loss or a gradient is not finite")
        counts = totals.counts.numpy()
        losses.append(np.where(counts > 0, totals.losses.numpy() / np.maximum(counts, 1), np.nan))
    return Result(np.array(losses), local_values(built))


def local_values(built: Experiment) -> dict[str, list[np.ndarray]]:
    """Every trained variable on each replica of this worker."""
    return {
        name: [value.numpy() for value in built.strategy.experimental_local_results(variable.value)]
        for name, variable in built.step.reach.by_name.items()
    }


@dataclasses.dataclass(frozen=True)
class Trainings:
    """Checks that train on a strategy.

    Attributes:
      strategy: the replicas.
      done: results by precision and method, kept to be compared with the next ones.
    """

    strategy: tf.distribute.Strategy
    done: dict[tuple[str, str], Result] = dataclasses.field(default_factory=dict)

    @property
    def reference(self) -> str | None:
        """The device that the replicas are compared with; None where they are that device alone."""
        first = self.strategy.extended.worker_devices[0]
        if self.strategy.num_replicas_in_sync > 1:
            return first
        return "/device:CPU:0" if self._device_type == "GPU" else None

    @property
    def _device_type(self) -> str:
        return tf.DeviceSpec.from_string(self.strategy.extended.worker_devices[0]).device_type

    def same_as_one_device(self, precision: str, method: str) -> CheckOutcome:
        """Compares the replicas' training with that of one device on the whole batch, missing labels and all."""
        if self.reference is None:
            return CheckOutcome(Status.SKIPPED, "there is one replica, on a CPU: nothing to compare")
        alone = tf.distribute.OneDeviceStrategy(self.reference)
        expected, result = (self._run(strategy, precision, method) for strategy in (alone, self.strategy))
        self.done[precision, method] = result
        difference, tolerance = largest_difference(result, expected), TOLERANCES[precision]
        replicas = self.strategy.num_replicas_in_sync
        device = self.reference.rpartition("device:")[2]
        what = f"{replicas} replica{'s' * (replicas > 1)} against {device} alone after {_STEPS} steps"
        status = Status.PASS if difference <= tolerance else Status.FAILED
        return CheckOutcome(status, f"{what}: largest relative difference {difference:.1e} (allowed {tolerance:g})")

    def same_bits_again(self) -> CheckOutcome:
        """Checks that the same steps give the same bits a second time, on every replica of every worker."""
        precision, method = "float32", "pcgrad"
        first = self.done.get((precision, method)) or self._run(self.strategy, precision, method)
        again = self._run(self.strategy, precision, method)
        if any(not np.array_equal(values[0], other) for values in first.variables.values() for other in values[1:]):
            return CheckOutcome(Status.FAILED, "the replicas of this worker do not hold the same variables")
        wrong = [
            path
            for path, values in first.variables.items()
            if not np.array_equal(values[0], again.variables[path][0], equal_nan=True)
        ]
        if wrong or not np.array_equal(first.losses, again.losses, equal_nan=True):
            difference = largest_difference(again, first)
            text = (
                f"{len(wrong)} of {len(first.variables)} variables are not bit for bit what they were the first time: "
                f"largest relative difference {difference:.1e}"
            )
            rounding = self._device_type == "GPU" and difference <= TOLERANCES["float32"]
            advice = (
                "; some of this GPU's kernels add in no fixed order, so a resumed run agrees to rounding only, unless "
                "it is trained with --deterministic"
            )
            return CheckOutcome(Status.WARNING, text + advice) if rounding else CheckOutcome(Status.FAILED, text)
        digest = hashlib.sha256(b"".join(first.variables[path][0].tobytes() for path in sorted(first.variables)))
        name = digest.hexdigest()[:12]
        return CheckOutcome(Status.PASS, f"{_STEPS} steps twice, bit for bit the same variables ({name})", same=name)

    def falls(self, precision: str, *, compile: str = OFF) -> CheckOutcome:
        """Checks that training works in a precision, compiled or not: losses must be finite and fall."""
        replicas = self.strategy.num_replicas_in_sync
        settings = config(replicas, precision, "weighted", batches=1, compile=compile)
        try:
            result = train(experiment.build(settings, self.strategy), _STEPS_TO_FALL)
        except tf.errors.UnimplementedError as error:
            return CheckOutcome(Status.SKIPPED, f"not for these devices: {reason_of(error)}")
        totals = np.nansum(result.losses * _WEIGHTS, axis=1)
        text = f"the losses' weighted sum goes from {totals[0]:.3g} to {totals[-1]:.3g} in {_STEPS_TO_FALL} steps"
        warning = strategy_lib.half_precision_warning(self.strategy, precision)
        if warning:
            text += f"; works, but {warning.partition(': ')[2].rstrip('.')}"
        falls = np.isfinite(totals).all() and totals[-1] < totals[0]
        return CheckOutcome(Status.PASS if falls else Status.FAILED, text)

    def _run(self, strategy: tf.distribute.Strategy, precision: str, method: str) -> Result:
        # GPUs take TensorFloat-32 for products of some shapes only: replicas would not agree with one device.
        replicas = self.strategy.num_replicas_in_sync
        settings = config(replicas, precision, method, batches=3, tensor_float_32=False)
        return train(experiment.build(settings, strategy), _STEPS)


def largest_difference(result: Result, expected: Result) -> float:
    """Returns the largest difference in a loss or any replica's variable, relative to the largest number in that array.

    Infinite where a difference is not finite or NaNs stand in other places.
    """
    pairs = [(result.losses, expected.losses)]
    pairs += [(value, expected.variables[path][0]) for path, values in result.variables.items() for value in values]
    return max(_relative(value, reference) for value, reference in pairs)


def _relative(value: np.ndarray, reference: np.ndarray) -> float:
    if not np.array_equal(np.isnan(value), np.isnan(reference)):
        return float("inf")
    scale = max(float(np.nanmax(np.abs(reference))), 1e-3)
    difference = float(np.nanmax(np.abs(value - reference))) / scale
    return difference if np.isfinite(difference) else float("inf")


def _split(count: int, seed: int) -> Examples:
    random = np.random.RandomState(seed)
    inputs = random.normal(size=(count, 6))
    hidden = np.tanh(inputs @ random.normal(size=(6, 5)))
    targets = {
        "label": np.argmax(hidden[:, :4], axis=1),
        "number": hidden @ random.normal(size=5),
        "vector": hidden @ random.normal(size=(5, 3)),
    }
    weights = {name: (random.uniform(size=count) < share).astype(np.float64) for name, share in _KNOWN.items()}
    for own in weights.values():
        own[0] = 1.0
    return Examples(inputs, targets, weights)
