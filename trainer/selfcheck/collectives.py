"""Checks of the replicas' sums: that each is made once, by which implementation, how fast."""

import dataclasses
import statistics
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.examples import Examples
from trainer.config import loading, settings
from trainer.distributed.all_reduce import Reduction
from trainer.run import experiment
from trainer.selfcheck import training
from trainer.selfcheck.outcome import CheckOutcome, Status

_FEATURES, _RATE = 5, 0.5
_WEIGHTS = {"a": 1.0, "b": 0.5}
_TOLERANCE = 1e-9
_LARGE, _SMALL = 64 * 2**20, 4 * 2**10  # bytes
_LARGE_CALLS, _SMALL_CALLS, _CHAIN = 3, 7, 10
# Operations that sum across devices; CollectiveReduceScatter does not.
_SUMMING = ("CollectiveReduce", "CollectiveReduceV2", "CollectiveReduceV3", "NcclAllReduce")


@dataclasses.dataclass(frozen=True)
class Collective:
    """A collective of a traced step, as one replica sees it.

    Attributes:
      op: the operation's type.
      hint: the implementation it asks for, in lower case.
      size: how many numbers it sums.
      dtype: of what type.
    """

    op: str
    hint: str
    size: int | None
    dtype: str


def linear_examples(examples: int) -> dict[str, Examples]:
    """Inputs and two targets that have nothing to do with them."""
    random = np.random.RandomState(0)
    inputs = random.normal(size=(examples, _FEATURES))
    split = Examples(inputs, {name: random.normal(size=(examples, 1)) for name in _WEIGHTS})
    return {"train": split, "validation": split}


def known_update(split: Examples) -> np.ndarray:
    """Returns (features,) the weights of a linear model that starts from zero, after one step of gradient descent.

    The mean squared error's gradient there is -2 mean(x y); the rate is 0.5.
    """
    target = sum(weight * split.targets[name] for name, weight in _WEIGHTS.items())
    return 2 * _RATE * np.mean(split.inputs * target, axis=0)


def summed_once(strategy: tf.distribute.Strategy) -> CheckOutcome:
    """Checks that a step makes a known update, not N times it, and sums in a single collective."""
    replicas = strategy.num_replicas_in_sync
    built = experiment.build(_linear_config(examples=3 * replicas + 1), strategy)
    expected = known_update(linear_examples(3 * replicas + 1)["train"])
    loop, iterator = built.step.build(), iter(built.batches(0))
    first, one = tf.constant(0, tf.int64), tf.constant(1, tf.int64)
    arguments = (first, one, tf.constant(False), built.step.initial_state(), built.step.initial_totals())
    found = collectives(loop.get_concrete_function(iterator, *arguments).graph)
    loop(iterator, *arguments)
    ((_, updates),) = training.local_values(built).items()
    times = [float(np.dot(update[:, 0], expected) / np.dot(expected, expected)) for update in updates]
    wrong = max(np.max(np.abs(update[:, 0] - expected)) for update in updates) > _TOLERANCE
    if wrong:
        by = ", ".join(f"{factor:.6g}" for factor in times)
        return CheckOutcome(
            Status.FAILED, f"a known update was made {by} times instead of once, on {replicas} replicas"
        )
    text = f"a known update on {replicas} replica{'s' * (replicas > 1)} is {times[0]:.9f} times what it must be"
    return _counted(found, replicas, len(updates), text)


def _counted(found: list[Collective], replicas: int, local: int, text: str) -> CheckOutcome:
    """Checks that the collectives of all replicas on this worker are what `trainer/step/__init__.py` promises."""
    expected = [] if replicas == 1 else [(2 * _FEATURES + 2 * len(_WEIGHTS), "float64")] * local
    counted = [(each.size, each.dtype) for each in found]
    each = "no collective" if not found else f"{len(found) / local:g} collective{'s' * (len(found) > local)}"
    sizes = f" of {', '.join(str(size) for size, _ in counted[::local])} numbers" if found else ""
    text = f"{text}, with {each}{sizes} in a step"
    if counted == expected:
        return CheckOutcome(Status.PASS, text)
    sized = f"1 of {expected[0][0]} numbers" if expected else "none"
    return CheckOutcome(Status.FAILED, f"{text}, where {sized} would do")


def collectives(graph: Any) -> list[Collective]:
    """The summing collectives of a graph and of the functions that it calls."""
    seen: set[int] = set()
    found: list[Collective] = []

    def walk(graph: Any) -> None:
        if id(graph) in seen:
            return
        seen.add(id(graph))
        for op in graph.get_operations():
            if op.type in _SUMMING:
                value = op.inputs[0]
                hint = "nccl" if op.type == "NcclAllReduce" else _hint(op)
                found.append(Collective(op.type, hint, value.shape.num_elements(), value.dtype.name))
        for function in graph._functions.values():  # there is no public way to them
            walk(function.graph)

    walk(graph)
    return found


def _hint(op: tf.Operation) -> str:
    try:
        return op.get_attr("communication_hint").decode().lower()
    except ValueError:  # V3 names its implementation elsewhere
        return "auto"


def implementation(found: Iterable[Collective], device_type: str) -> str | None:
    """ "NCCL", "ring" or "copies to one device"; None where the collectives differ.

    TensorFlow takes NCCL for GPUs that ask for it and its own ring for everything else, "auto" included.
    """
    kinds = {"NCCL" if device_type == "GPU" and each.hint == "nccl" else "ring" for each in found}
    if not kinds:
        return "copies to one device"
    return kinds.pop() if len(kinds) == 1 else None


def bus_bandwidth(size: int, seconds: float, replicas: int) -> float:
    """Bytes per second that each replica's link carries at least, in an all-reduce of `size` bytes: 2(N - 1)/N of it.

    https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md
    """
    return 2 * (replicas - 1) / replicas * size / seconds


def bandwidth(strategy: tf.distribute.Strategy) -> CheckOutcome:
    """Finds the implementation that sums and times it: the median of several all-reduces of a large and a small tensor.

    Fails where a sum is wrong; warns where GPUs do not use NCCL.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return CheckOutcome(Status.SKIPPED, "there is one replica: nothing to sum")
    large, found, right = _seconds(strategy, _LARGE, _LARGE_CALLS, chain=1)
    small, _, right_too = _seconds(strategy, _SMALL, _SMALL_CALLS, chain=_CHAIN)
    device_type = tf.DeviceSpec.from_string(strategy.extended.worker_devices[0]).device_type
    kind = implementation(found, device_type)
    text = (
        f"{kind or 'several implementations'} over {replicas} replicas: {_LARGE // 2**20} MiB in {1e3 * large:.3g} ms, "
        f"{_LARGE / large / 1e9:.3g} GB/s, on the bus {bus_bandwidth(_LARGE, large, replicas) / 1e9:.3g} GB/s; "
        f"{_SMALL // 2**10} KiB in {1e6 * small:.3g} µs"
    )
    if not (right and right_too):
        return CheckOutcome(Status.FAILED, f"{text}; the sums are wrong")
    if device_type == "GPU" and kind != "NCCL":
        return CheckOutcome(Status.WARNING, f"{text}; GPUs are much faster with NCCL")
    return CheckOutcome(Status.PASS, text)


def _seconds(
    strategy: tf.distribute.Strategy, size: int, calls: int, *, chain: int
) -> tuple[float, list[Collective], bool]:
    """Median time of an all-reduce of `size` bytes, several in a row; the collectives; whether their sums are right."""
    replicas = strategy.num_replicas_in_sync

    def ones() -> tf.Tensor:
        return tf.ones([size // 4])

    def reduced(value: tf.Tensor) -> tf.Tensor:
        for _ in range(chain):
            (((total,),), _) = Reduction().sum([[value]], ())
            value = total / replicas
        return tf.stack([value[0], value[-1]])

    values = strategy.run(tf.function(ones, autograph=False))
    run = tf.function(lambda values: strategy.run(reduced, args=(values,)), autograph=False)
    found = collectives(run.get_concrete_function(values).graph)
    times, right = [], True
    for _ in range(calls + 1):
        start = time.perf_counter()
        ends = [local.numpy() for local in strategy.experimental_local_results(run(values))]
        times.append(time.perf_counter() - start)
        right &= all(np.allclose(each, 1.0, rtol=1e-5) for each in ends)
    return statistics.median(times[1:]) / chain, found, right  # the first one warms up


def _linear_config(examples: int) -> settings.Config:
    sgd = {"name": "sgd", "learning_rate": _RATE}
    layer = {"layer": "Dense", "units": 1, "use_bias": False, "kernel_initializer": "zeros"}
    return loading.resolve(
        {
            "precision": "float64",
            "batch_size": examples,
            "steps": 1,
            "combine": {"name": "weighted"},
            "reduction": "per_loss",
            "dataset": {"name": f"{__name__}:linear_examples", "options": {"examples": examples}},
            "model": {"trunk": [], "heads": {"y": [layer]}},
            "losses": {
                name: {"head": "y", "target": name, "loss": "mse", "weight": weight}
                for name, weight in _WEIGHTS.items()
            },
            "optimizer": sgd,
        }
    )
