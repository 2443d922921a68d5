"""State that every replica keeps for itself: random layers and batch statistics."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

# These set seeds apart from others that are drawn from (seed, step).
_RANDOM_LAYERS = 0x52414E44
_EVALUATION = 0x4556414C


def seed_random_layers(model: keras.Model, *, seed: int, step: tf.Tensor) -> None:
    """Gives every random layer its seed for this replica and step; call it in replica context, before the forward pass.

    Keras keeps one seed for all replicas, which would give all of them the same dropout mask. Here the state of
    every seed generator is a function of (seed, layer, replica, step): masks differ between replicas and steps, and
    repeat with the seed.
    """
    _seed(model, seed, _RANDOM_LAYERS, (step,))


def seed_evaluation(model: keras.Model, *, seed: int, step: tf.Tensor, batch: tf.Tensor) -> None:
    """Does the same before the forward pass of an evaluation, for layers that draw there, too.

    What they draw is a function of (seed, layer, replica, steps taken, number of the evaluation's batch), so that every
    evaluation of the same variables by as many replicas gives the same numbers, whichever process it runs in. Training
    sets its own seeds before every step, so that an evaluation leaves them as they are.
    """
    _seed(model, seed, _EVALUATION, (step, batch))


@contextlib.contextmanager
def kept(model: keras.Model) -> Iterator[None]:
    """Restores the model's non-trainable variables at the end of a context, whatever layers have changed within it.

    Call it in replica context, while tracing.
    """
    variables = [variable.value for variable in model.non_trainable_variables]
    before = [tf.identity(variable) for variable in variables]
    yield
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)


def build_statistics_average(strategy: tf.distribute.Strategy, model: keras.Model) -> Callable[[], None]:
    """A function that sets statistics that layers move along by themselves to their mean over replicas.

    Every replica sees its own part of a batch, so batch normalisation's moving statistics drift apart unless the
    layer is `synchronized`; call the function in cross-replica context before anything reads them.
    """
    statistics = [variable for variable in model.non_trainable_variables if tf.as_dtype(variable.dtype).is_floating]
    if not statistics or strategy.num_replicas_in_sync == 1:
        return lambda: None

    def on_replica() -> None:
        context = tf.distribute.get_replica_context()
        means = context.all_reduce(
            tf.distribute.ReduceOp.MEAN, [tf.identity(variable.value) for variable in statistics]
        )
        for variable, mean in zip(statistics, means, strict=True):
            variable.value.assign(mean)

    return tf.function(lambda: strategy.run(on_replica), autograph=False)


def draws(model: keras.Model) -> bool:
    """True where a layer of the model holds a generator of random numbers, as dropout does."""
    return bool(_seed_states(model))


def _seed(model: keras.Model, seed: int, purpose: int, numbers: Sequence[tf.Tensor]) -> None:
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    for layer, state in enumerate(_seed_states(model)):
        words = tf.constant([seed & 0x7FFFFFFF, (seed >> 31) ^ purpose], tf.int64)
        for part in (layer, replica, *numbers):
            words = tf.cast(tf.random.experimental.stateless_fold_in(words, part), tf.int64)
        # The generator counts up the second word; keeping both positive leaves it room.
        state.value.assign(tf.cast(words & 0x3FFFFFFF, state.value.dtype))


def _seed_states(model: keras.Model) -> list[keras.Variable]:
    return [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]
