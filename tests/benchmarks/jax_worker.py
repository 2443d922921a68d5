"""A process that measures JAX with optax: python -m tests.benchmarks.jax_worker. Imports no TensorFlow."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.benchmarks import workers
from tests.benchmarks.problems import Problem

_RATE, _EPSILON = 1e-3, 1e-7  # Keras' Adam
_CONVOLUTION = ("NHWC", "HWIO", "NHWC")


def train(problem: Problem, *, per_loss: bool = False, per_call: int = 1) -> Callable[[int], float]:
    """A jitted training loop of the problem, its data on the device, every epoch in another order.

    Args:
      problem: what to train.
      per_loss: a gradient of the trunk for each loss, all in one vmap, then their mean; otherwise one backward pass
        of the summed loss.
      per_call: steps of one call; more than one are a `lax.fori_loop`.

    Returns:
      A function from a number of steps, a multiple of `per_call`, to the seconds they took.
    """
    inputs, targets, _ = problem.arrays()
    data = jnp.asarray(inputs), tuple(jnp.asarray(target) for target in targets.values())
    parameters = _parameters(problem)
    adam = optax.adam(_RATE, eps=_EPSILON)
    gradients = _per_loss if per_loss else _summed

    def step(carry: tuple, order: jax.Array, data: tuple) -> tuple:
        parameters, slots, totals, taken = carry
        first = taken * problem.batch_size
        rows = jax.lax.dynamic_slice_in_dim(order, first, problem.batch_size)
        batch = jax.tree.map(lambda values: values[rows], data)
        losses, found = gradients(problem, parameters, batch)
        updates, slots = adam.update(found, slots, parameters)
        return optax.apply_updates(parameters, updates), slots, totals + losses, taken + 1

    def call(carry: tuple, order: jax.Array, data: tuple) -> tuple:
        if per_call == 1:
            return step(carry, order, data)
        return jax.lax.fori_loop(0, per_call, lambda _, own: step(own, order, data), carry)

    compiled = jax.jit(call, donate_argnums=0)
    random = np.random.default_rng(0)
    per_order = math.lcm(problem.epoch, per_call)  # steps between permutations, which a call must not run over
    carry = parameters, adam.init(parameters), jnp.zeros(problem.heads), jnp.int32(0)
    order, left = None, 0

    def steps(count: int) -> float:
        nonlocal carry, order, left
        start = time.perf_counter()
        for _ in range(count // per_call):
            if not left:
                epochs = [random.permutation(problem.examples) for _ in range(per_order // problem.epoch)]
                order, left = jnp.asarray(np.concatenate(epochs), jnp.int32), per_order
                carry = (*carry[:3], jnp.int32(0))
            carry = compiled(carry, order, data)
            left -= per_call
        np.asarray(carry[2])
        return time.perf_counter() - start

    return steps


def _summed(problem: Problem, parameters: tuple, batch: tuple) -> tuple[jax.Array, tuple]:
    """The losses, (K,), and the gradients of their sum."""

    def total(parameters: tuple) -> tuple[jax.Array, jax.Array]:
        trunk, heads = parameters
        losses = _losses(_features(problem, trunk, batch[0]), heads, batch[1])
        return losses.sum(), losses

    (_, losses), found = jax.value_and_grad(total, has_aux=True)(parameters)
    return losses, found


def _per_loss(problem: Problem, parameters: tuple, batch: tuple) -> tuple[jax.Array, tuple]:
    """The losses, (K,), the mean of their gradients for the trunk, and each head's own."""
    trunk, heads = parameters
    features, of_trunk = jax.vjp(lambda trunk: _features(problem, trunk, batch[0]), trunk)
    losses, of_heads = jax.vjp(lambda features, heads: _losses(features, heads, batch[1]), features, heads)
    of_features, _ = jax.vmap(of_heads)(jnp.eye(problem.heads))
    _, own = of_heads(jnp.ones(problem.heads))
    (jacobian,) = jax.vmap(of_trunk)(of_features)
    return losses, (jax.tree.map(lambda rows: rows.mean(0), jacobian), own)


def _losses(features: jax.Array, heads: tuple, targets: tuple) -> jax.Array:
    outputs = [features @ kernel + bias for kernel, bias in heads]
    classes = optax.softmax_cross_entropy_with_integer_labels(outputs[0], targets[0]).mean()
    squares = [jnp.square(output - target).mean() for output, target in zip(outputs[1:], targets[1:], strict=True)]
    return jnp.stack([classes, *squares])


def _features(problem: Problem, trunk: tuple, values: jax.Array) -> jax.Array:
    for layer, own in zip(problem.trunk, trunk, strict=True):
        match layer["layer"]:
            case "Conv2D":
                found = jax.lax.conv_general_dilated(values, own[0], (1, 1), "SAME", dimension_numbers=_CONVOLUTION)
                values = jax.nn.relu(found + own[1])
            case "MaxPooling2D":
                window = (1, 2, 2, 1)
                values = jax.lax.reduce_window(values, -jnp.inf, jax.lax.max, window, window, "VALID")
            case "Flatten":
                values = values.reshape(values.shape[0], -1)
            case "Dense":
                values = jax.nn.relu(values @ own[0] + own[1])
    return values


def _parameters(problem: Problem) -> tuple[tuple, tuple]:
    """Kernels and biases of every layer of the trunk, () where it has none, and of every head."""
    random = np.random.default_rng(0)

    def layer(*kernel: int) -> tuple[jax.Array, jax.Array]:
        spread = math.sqrt(2 / (math.prod(kernel[:-1]) + math.prod(kernel[:-2]) * kernel[-1]))
        return jnp.asarray(random.normal(0, spread, kernel), jnp.float32), jnp.zeros(kernel[-1])

    trunk = tuple(layer(*kernel) if kernel else () for kernel in problem.kernels)
    return trunk, tuple(layer(problem.kernels[-1][-1], width) for width in problem.widths)


def main() -> None:
    """Serves with the threads that JAX takes by itself, one for each processor."""
    contenders: dict[str, Callable[[int], float]] = {}

    def build(name: str, kind: str, problem: Mapping[str, Any], **options: Any) -> None:
        del kind
        contenders[name] = train(Problem(**problem), **options)

    workers.serve({"build": build, "steps": lambda name, count: contenders[name](count)})


if __name__ == "__main__":
    main()
