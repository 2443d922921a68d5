"""The least that TensorFlow needs for a step: forward, one backward pass of the summed loss and Adam, nothing else."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tests.benchmarks.problems import Problem

_RATE, _BETA_1, _BETA_2, _EPSILON = 1e-3, 0.9, 0.999, 1e-7


def train(problem: Problem, *, per_call: int) -> Callable[[int], float]:
    """Trains on one batch in a graph of bare operations, `per_call` steps a call."""
    inputs, targets, _ = problem.arrays(problem.batch_size)
    inputs, targets = tf.constant(inputs), {name: tf.constant(value) for name, value in targets.items()}
    trunk, features = _trunk(problem)
    heads = {name: _dense(features, width) for name, width in zip(problem.names, problem.widths, strict=True)}
    variables = [v for _, own in trunk for v in own] + [v for own in heads.values() for v in own]
    slots = [(tf.Variable(tf.zeros_like(v)), tf.Variable(tf.zeros_like(v))) for v in variables]

    def one_step(step: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            hidden = inputs
            for layer, own in trunk:
                hidden = _apply(layer, own, hidden)
            losses = [_loss(tf.matmul(hidden, kernel) + bias, targets[name]) for name, (kernel, bias) in heads.items()]
            total = tf.add_n(losses)
        power = tf.cast(step + 1, tf.float32)
        for variable, gradient, (m, v) in zip(variables, tape.gradient(total, variables), slots, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=m.handle,
                v=v.handle,
                beta1_power=_BETA_1**power,
                beta2_power=_BETA_2**power,
                lr=_RATE,
                beta1=_BETA_1,
                beta2=_BETA_2,
                epsilon=_EPSILON,
                grad=gradient,
            )
        return tf.stack(losses)

    @tf.function(autograph=False)
    def loop(first: tf.Tensor) -> tf.Tensor:
        def body(index: tf.Tensor, totals: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return index + 1, totals + one_step(first + index)

        start = (tf.constant(0, tf.int64), tf.zeros([problem.heads]))
        return tf.while_loop(lambda index, _: index < per_call, body, start)[1]

    taken = 0

    def steps(count: int) -> float:
        nonlocal taken
        start = time.perf_counter()
        for _ in range(count // per_call):
            totals = loop(tf.constant(taken, tf.int64))
            taken += per_call
        totals.numpy()
        return time.perf_counter() - start

    return steps


def _trunk(problem: Problem) -> tuple[list[tuple[Mapping[str, Any], list[tf.Variable]]], int]:
    """Every layer with its variables, and the number of features at the end."""
    shape, layers = list(problem.inputs), []
    for layer in problem.trunk:
        variables = []
        match layer["layer"]:
            case "Conv2D":
                size = layer["kernel_size"]
                kernel = tf.random.normal([size, size, shape[-1], layer["filters"]], stddev=0.1)
                variables = [tf.Variable(kernel), tf.Variable(tf.zeros([layer["filters"]]))]
                shape[-1] = layer["filters"]
            case "MaxPooling2D":
                shape[:2] = shape[0] // 2, shape[1] // 2
            case "Flatten":
                shape = [shape[0] * shape[1] * shape[2]]
            case "Dense":
                variables = _dense(shape[0], layer["units"])
                shape = [layer["units"]]
        layers.append((layer, variables))
    return layers, shape[0]


def _dense(inputs: int, outputs: int) -> list[tf.Variable]:
    return [tf.Variable(tf.random.normal([inputs, outputs], stddev=0.05)), tf.Variable(tf.zeros([outputs]))]


def _apply(layer: Mapping[str, Any], variables: list[tf.Variable], inputs: tf.Tensor) -> tf.Tensor:
    match layer["layer"]:
        case "Conv2D":
            return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(inputs, variables[0], 1, "SAME"), variables[1]))
        case "MaxPooling2D":
            return tf.nn.max_pool2d(inputs, 2, 2, "VALID")
        case "Flatten":
            return tf.reshape(inputs, [inputs.shape[0], -1])
        case "Dense":
            return tf.nn.relu(tf.nn.bias_add(tf.matmul(inputs, variables[0]), variables[1]))
    raise ValueError(layer)


def _loss(prediction: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    if target.dtype.is_integer:
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(target, prediction))
    return tf.reduce_mean(tf.math.squared_difference(prediction, target))
