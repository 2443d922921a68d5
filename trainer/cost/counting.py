"""The operations of a model's forward pass, and which losses' backward passes each of them takes part in.

They are counted in a scratch trace that never runs, with the statistics that TensorFlow's profiler uses.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from absl import logging
from tensorflow.python.framework import ops  # the profiler's statistics have no public name

from trainer.components import comparisons, predictions
from trainer.components.losses import NamedLoss
from trainer.config.loss_settings import GLOBAL_BATCH
from trainer.cost import passes
from trainer.cost.passes import Passes
from trainer.cost.workload import Gathered, Operations, Variable, Workload
from trainer.distributed import gathering
from trainer.gradients.reach import Reach
from trainer.run import checks, experiment
from trainer.run.experiment import Experiment
from trainer.step import absence, backward, discovery

# Products of two tensors: the gradient of each costs as much as the product. Everything else is taken to cost its own
# operations once more.
_PRODUCTS = {
    "BatchMatMul",
    "BatchMatMulV2",
    "BatchMatMulV3",
    "Conv2D",
    "Conv2DBackpropInput",  # forward, of a transposed convolution
    "Conv3D",
    "DepthwiseConv2dNative",
    "Einsum",
    "MatMul",
}
# Updates, of which TensorFlow has no statistics: operations for every number, and which input the gradient is.
_UPDATES = {
    "ResourceApplyAdam": (12, 9),
    "ResourceApplyGradientDescent": (2, 2),
    "ResourceApplyKerasMomentum": (4, 3),
}
# Operations that no gradient passes.
_STOPS = {"PreventGradient", "StopGradient"}
_FUNCTIONS = {"If", "PartitionedCall", "StatefulPartitionedCall", "StatelessIf", "StatelessWhile", "While"}


def of_experiment(built: Experiment, batch: int) -> tuple[Workload, Passes]:
    """The workload of a built experiment, with `batch` examples on each replica, and the passes of its step."""
    tf.get_logger().setLevel("ERROR")  # the statistics of operations call themselves deprecated
    objectives = built.step.objectives
    missing = any(absence.can_lack_labels(built.losses, built.train.spec, objectives.masked))
    counted = workload(
        built.model, built.losses, built.reach, experiment.batch_spec(built.train, batch), built.strategy
    )
    return counted, passes.of(built.config, missing=missing, numbers=3 if objectives.counts_what_is_left else 2)


def workload(
    model: keras.Model,
    losses: Sequence[NamedLoss],
    reach: Reach,
    batch_spec: Mapping[str, Any],
    strategy: tf.distribute.Strategy,
) -> Workload:
    """Counts the operations of the forward pass and returns the workload of a step with this model and these losses.

    Args:
      model: the model.
      losses: its K losses.
      reach: which of them reach which variable.
      batch_spec: `tf.TensorSpec`s of one replica's part of a batch, all dimensions known.
      strategy: the strategy whose scope built the model.
    """
    graph, totals, reached_from = _traced(model, losses, reach, batch_spec, strategy)
    examples = tf.nest.flatten(batch_spec)[0].shape[0]
    depends = _depends(graph, reached_from)
    of_shared = _depends(graph, {handle: by for handle, by in reached_from.items() if len(by) > 1})
    of_own = _depends(graph, {handle: by for handle, by in reached_from.items() if len(by) == 1})
    feeds, learns = (_feeds(graph, totals, stops=stops) for stops in (frozenset(), _STOPS))
    _warn_of_what_is_not_counted(graph, feeds)

    counts: Counter[tuple[frozenset[int], tuple[frozenset[int], ...], int]] = Counter()
    statistics: list[Operations] = []
    features: dict[str, int] = {}
    every = frozenset(range(len(losses)))
    for op in graph.get_operations():
        used, learnt = _union(feeds, op.outputs), _union(learns, op.outputs)
        if not used:
            continue
        own = [learnt & depends.get(tensor.name, frozenset()) for tensor in op.inputs]
        both = [
            bool(by and of_shared.get(tensor.name) and of_own.get(tensor.name))
            for tensor, by in zip(op.inputs, own, strict=True)
        ]
        product = op.type in _PRODUCTS
        gradients = own if product else [frozenset().union(*own)]
        twice = sum(both) if product else int(any(both))
        key = used, tuple(losses_ for losses_ in gradients if losses_), twice
        counts[key] += count(op)
        if _is_summed(op):
            statistics.append(Operations(op.inputs[0].shape.num_elements() * op.inputs[0].dtype.size, *key))
        for tensor, by in zip(op.inputs, own, strict=True):
            if used < every and by and _feeds_all(tensor, feeds, every) and tensor.shape[:1] == [examples]:
                features[tensor.name] = tensor.shape.num_elements()
    return Workload(
        examples=examples,
        losses=len(losses),
        operations=tuple(Operations(total, *key) for key, total in counts.items() if total),
        variables=tuple(
            Variable(math.prod(variable.shape), tf.as_dtype(variable.dtype).size, by)
            for variable, by in zip(reach.variables, reach.losses, strict=True)
        ),
        features=sum(features.values()),
        width=tf.as_dtype(keras.config.floatx()).size,
        statistics=tuple(statistics),
        gathered=_gathered(model, losses, batch_spec),
    )


def _gathered(model: keras.Model, losses: Sequence[NamedLoss], batch_spec: Mapping[str, Any]) -> tuple[Gathered, ...]:
    """The tensors that losses over the global batch read, each once."""
    over = [k for k, loss in enumerate(losses) if loss.over == GLOBAL_BATCH]
    if not over:
        return ()
    outputs = checks.outputs(model, batch_spec["inputs"], model.name)
    of_model = predictions.Predictions(outputs, {}, inputs=predictions.named_inputs(batch_spec["inputs"]))
    read = {k: comparisons.gathered([losses[k]], of_model, batch_spec) for k in over}
    found = []
    for key, tensor in {key: tensor for own in read.values() for key, tensor in own.items()}.items():
        dtype = gathering.travels_as(tf.as_dtype(tensor.dtype))
        feeds = frozenset(k for k in over if key in read[k])
        found.append(Gathered(feeds, dtype.name, math.prod(tensor.shape) * dtype.size))
    return tuple(found)


def count(op: tf.Operation) -> float:
    """Floating-point operations of one operation of a graph, all of whose shapes are known; 0 where it has none.

    A multiply-add counts twice. What TensorFlow has no statistics for, and what is no arithmetic, counts nothing.
    """
    if op.type == "Einsum":
        return _einsum(op)
    if op.type in _UPDATES:
        for_each, gradient = _UPDATES[op.type]
        return float(for_each * op.inputs[gradient].shape.num_elements())
    try:
        return float(ops.get_stats_for_node_def(op.graph, op.node_def, "flops").value or 0)
    except (AssertionError, ValueError):  # an unknown shape, or pooling with the channels first
        return 0.0


def _traced(
    model: keras.Model,
    losses: Sequence[NamedLoss],
    reach: Reach,
    batch_spec: Mapping[str, Any],
    strategy: tf.distribute.Strategy,
) -> tuple[tf.Graph, list[tf.Tensor], dict[int, frozenset[int]]]:
    """The graph of a forward pass, the losses' sums in it, and the losses that reach each variable.

    The variables go by the ids of their handles on the replica that was traced.
    """
    totals: list[tf.Tensor] = []
    reached_from: dict[int, frozenset[int]] = {}

    def forward(batch: Mapping[str, Any]) -> None:
        with discovery.scratch_trace(strategy):
            totals.extend(sums.loss_sum for sums in backward.forward(model, losses, batch))
            for variable, by in zip(reach.variables, reach.losses, strict=True):
                reached_from[id(variable.value.handle)] = frozenset(by)

    graph = tf.function(forward, autograph=False).get_concrete_function(batch_spec).graph
    return graph, totals, reached_from


def _einsum(op: tf.Operation) -> float:
    """One multiply-add for every combination of the indices (an addition where there is nothing to multiply)."""
    terms = op.get_attr("equation").decode().partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    batch = 1
    for term, tensor in zip(terms, op.inputs, strict=True):
        if not tensor.shape.is_fully_defined():
            return 0.0
        before, dots, after = term.partition("...")
        shape = list(tensor.shape)
        sizes |= dict(zip(before, shape, strict=False))
        if dots:
            sizes |= dict(zip(reversed(after), reversed(shape), strict=False))
            batch = max(batch, math.prod(shape[len(before) : len(shape) - len(after)]))
    return float(min(len(terms), 2) * batch * math.prod(sizes.values()))


def _depends(graph: tf.Graph, reached_from: Mapping[int, frozenset[int]]) -> dict[str, frozenset[int]]:
    """Returns tensor name → the losses that reach one of the variables it is computed from."""
    depends = {inside.name: reached_from[id(handle)] for handle, inside in graph.captures if id(handle) in reached_from}
    for op in graph.get_operations():
        if op.type in _STOPS or op.type == "Placeholder":
            continue
        for index, output in enumerate(op.outputs):
            inputs = op.inputs[index : index + 1] if op.type == "IdentityN" else op.inputs
            if output.dtype.is_floating:
                depends[output.name] = _union(depends, inputs)
    return depends


def _feeds(graph: tf.Graph, totals: Sequence[tf.Tensor], stops: frozenset[str] | set[str]) -> dict[str, frozenset[int]]:
    """Returns tensor name → the losses whose value depends on it other than through `stops`."""
    feeds: dict[str, frozenset[int]] = {}
    for k, total in enumerate(totals):
        feeds[total.name] = feeds.get(total.name, frozenset()) | {k}
    for op in reversed(graph.get_operations()):
        if op.type in stops:
            continue
        for index, tensor in enumerate(op.inputs):
            outputs = op.outputs[index : index + 1] if op.type == "IdentityN" else op.outputs
            feeds[tensor.name] = feeds.get(tensor.name, frozenset()) | _union(feeds, outputs)
    return feeds


def _is_summed(op: tf.Operation) -> bool:
    """Returns True for an operation whose result a step sums over all replicas."""
    return op.type == "Identity" and re.fullmatch(rf"{discovery.SUMMED}(_\d+)?", op.name.rpartition("/")[2]) is not None


def _feeds_all(tensor: tf.Tensor, feeds: Mapping[str, frozenset[int]], every: frozenset[int]) -> bool:
    return _union(feeds, tensor.op.outputs) == every


def _union(sets: Mapping[str, frozenset[int]], tensors: Sequence[tf.Tensor]) -> frozenset[int]:
    return frozenset().union(*(sets.get(tensor.name, frozenset()) for tensor in tensors))


def _warn_of_what_is_not_counted(graph: tf.Graph, feeds: Mapping[str, frozenset[int]]) -> None:
    used = [op for op in graph.get_operations() if _union(feeds, op.outputs)]
    names = [op.name for op in used if op.type in _FUNCTIONS or (op.type in _PRODUCTS and not count(op))]
    if names:
        logging.warning(
            "Not counted: what is inside of loops and conditions of the model, and products of unknown shape (%s).",
            ", ".join(names[:3]),
        )
