"""State that every replica keeps for itself: random layers and batch statistics."""

import contextlib
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

_RANDOM_LAYERS = 0x52414E44  # sets these seeds apart from others that are drawn from (seed, step)


def seed_random_layers(model: keras.Model, *, seed: int, step: tf.Tensor) -> None:
    """Gives every random layer its seed for this replica and step; call it in replica context, before the forward pass.

    Keras keeps one seed for all replicas, which would give all of them the same dropout mask. Here the state of
    every seed generator is a function of (seed, layer, replica, step): masks differ between replicas and steps, and
    repeat with the seed.
    """
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    for layer, state in enumerate(_seed_states(model)):
        words = tf.constant([seed & 0x7FFFFFFF, (seed >> 31) ^ _RANDOM_LAYERS], tf.int64)
        for part in (layer, replica, step):
            words = tf.cast(tf.random.experimental.stateless_fold_in(words, part), tf.int64)
        # The generator counts up the second word; keeping both positive leaves it room.
        state.value.assign(tf.cast(words & 0x3FFFFFFF, state.value.dtype))


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


def _seed_states(model: keras.Model) -> list[keras.Variable]:
    return [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]
