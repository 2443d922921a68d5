"""Updates of Keras' optimizers as one operation of TensorFlow for each variable, where TensorFlow has the same formula.

Keras makes an update of many operations, with Adam of twenty for each variable, and they are the greater part of a
small network's step. Slots, iterations and learning rates stay Keras' variables, whoever reads or changes them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Given the variable, its number among those of the optimizer, the learning rate and the gradient.
_Update = Callable[[tf.Variable, int, tf.Tensor, tf.Tensor], None]


def adopt(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes an optimizer update each variable in one operation, where there is one of its formula.

    Its `apply` then needs a replica context, and dense gradients that every replica already holds in full. Calling
    this again changes nothing.
    """
    of_dtype = _OF_DTYPE.get(getattr(optimizer.update_step, "__func__", None))
    if of_dtype is None or getattr(optimizer, "amsgrad", False):
        return
    fused = _Fused(optimizer, of_dtype)
    optimizer.update_step, optimizer._backend_update_step = fused.update_step, fused.update_all


class _Fused:
    """Two functions that take the places of an optimizer's own."""

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        of_dtype: Callable[[keras.optimizers.Optimizer, tf.DType], _Update],
    ):
        self._optimizer, self._of_dtype = optimizer, of_dtype
        self._updates: dict[tf.DType, _Update] = {}

    def update_all(self, gradients: Sequence[tf.Tensor], variables: Sequence[Any], learning_rate: Any) -> None:
        """Updates all variables of this replica; what depends on the step alone is computed once.

        Keras would leave the replica context and enter it anew for each variable.
        """
        values, rate = [variable.value for variable in variables], tf.convert_to_tensor(learning_rate)
        self._updates = {dtype: self._of_dtype(self._optimizer, dtype) for dtype in {value.dtype for value in values}}
        for gradient, value in zip(gradients, values, strict=True):
            self._optimizer.update_step(gradient, value, rate)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Updates one variable."""
        dtype, index = variable.dtype, self._optimizer._get_variable_index(variable)
        self._updates[dtype](variable, index, tf.cast(learning_rate, dtype), tf.cast(gradient, dtype))


def _adam(optimizer: keras.optimizers.Adam, dtype: tf.DType) -> _Update:
    """The update of Adam and AdamW, whose decay comes before it."""
    beta_1, beta_2, epsilon = (
        tf.constant(number, dtype) for number in (optimizer.beta_1, optimizer.beta_2, optimizer.epsilon)
    )
    step = tf.cast(optimizer.iterations.value + 1, dtype)
    powers = [tf.pow(_rounded(beta, dtype), step) for beta in (optimizer.beta_1, optimizer.beta_2)]

    @functools.cache
    def correction() -> tf.Tensor:
        """The factor of the learning rate, which most variables do not need."""
        return tf.sqrt(1 - powers[1]) / (1 - powers[0])

    def update(variable: tf.Variable, index: int, rate: tf.Tensor, gradient: tf.Tensor) -> None:
        mean, square = optimizer._momentums[index].value, optimizer._velocities[index].value
        if _takes_longer_in_one(variable):
            _descend(mean, 1 - beta_1, mean - gradient)
            _descend(square, 1 - beta_2, square - tf.square(gradient))
            _descend(variable, rate * correction(), mean / (tf.sqrt(square) + epsilon))
            return
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=mean.handle,
            v=square.handle,
            beta1_power=powers[0],
            beta2_power=powers[1],
            lr=rate,
            beta1=beta_1,
            beta2=beta_2,
            epsilon=epsilon,
            grad=gradient,
        )

    return update


def _takes_longer_in_one(variable: tf.Variable) -> bool:
    """True for sizes of which TensorFlow's Adam on CPUs takes the work to be many times what it is.

    It then wakes threads for parts that are finished sooner than those are awake. Of very few packets (of up to 16
    numbers) it does not.
    """
    size = variable.shape.num_elements()
    packets = size if size % 16 else size // 16
    return packets > 16 and size < 2**14 and "GPU" not in variable.device


def _descend(variable: tf.Variable, rate: tf.Tensor, by: tf.Tensor) -> None:
    tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=rate, delta=by)


def _sgd(optimizer: keras.optimizers.SGD, dtype: tf.DType) -> _Update:
    """The update of gradient descent, plain or with momentum."""
    momentum = _rounded(optimizer.momentum, dtype)

    def update(variable: tf.Variable, index: int, rate: tf.Tensor, gradient: tf.Tensor) -> None:
        if optimizer.momentum == 0:
            _descend(variable, rate, gradient)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=optimizer.momentums[index].value.handle,
            lr=rate,
            grad=gradient,
            momentum=momentum,
            use_nesterov=optimizer.nesterov,
        )

    return update


def _rms_prop(optimizer: keras.optimizers.RMSprop, dtype: tf.DType) -> _Update:
    """The update of RMSprop, centered or not, with momentum or without."""
    rho, momentum, epsilon = (
        tf.constant(number, dtype) for number in (optimizer.rho, optimizer.momentum, optimizer.epsilon)
    )

    def in_several(variable: tf.Variable, index: int, rate: tf.Tensor, gradient: tf.Tensor) -> None:
        """Without momentum, of which TensorFlow's operations need a slot that Keras does not have."""
        square = optimizer._velocities[index].value
        _descend(square, 1 - rho, square - tf.square(gradient))
        variance = square
        if optimizer.centered:
            mean = optimizer._average_gradients[index].value
            _descend(mean, 1 - rho, mean - gradient)
            variance = square - tf.square(mean)
        _descend(variable, rate, gradient / tf.sqrt(variance + epsilon))

    def in_one(variable: tf.Variable, index: int, rate: tf.Tensor, gradient: tf.Tensor) -> None:
        slots = {"ms": optimizer._velocities, "mom": optimizer._momentums}
        if optimizer.centered:
            slots["mg"] = optimizer._average_gradients
        operation = tf.raw_ops.ResourceApplyCenteredRMSProp if optimizer.centered else tf.raw_ops.ResourceApplyRMSProp
        operation(
            var=variable.handle,
            lr=rate,
            rho=rho,
            momentum=momentum,
            epsilon=epsilon,
            grad=gradient,
            **{name: own[index].value.handle for name, own in slots.items()},
        )

    return in_one if optimizer.momentum > 0 else in_several


def _rounded(number: float, dtype: tf.DType) -> tf.Tensor:
    """A number as Keras has it where it casts one: of no more digits than float32, also in float64."""
    return tf.constant(np.float32(number), dtype)


_OF_DTYPE = {
    keras.optimizers.Adam.update_step: _adam,
    keras.optimizers.SGD.update_step: _sgd,
    keras.optimizers.RMSprop.update_step: _rms_prop,
}
