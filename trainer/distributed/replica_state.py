"""State that every replica keeps for itself: random layers, moving statistics and the like."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import tensorflow as tf

from trainer.distributed import strategy as strategy_lib
from trainer.distributed.workers import Workers

_HOST = "CPU:0"
# These set seeds apart from others that are drawn from (seed, step).
_RANDOM_LAYERS = 0x52414E44
_EVALUATION = 0x4556414C


class LayerState:
    """Variables that layers change by themselves, such as moving statistics and counters.

    Every replica sees its own part of a batch, so that its values drift apart from those of the others; batch
    normalisation that is `synchronized` keeps them equal. The model that comes out has their `average`.

    Args:
      strategy: built the variables.
      variables: the variables, by name.
    """

    def __init__(self, strategy: tf.distribute.Strategy, variables: Mapping[str, keras.Variable]):
        self._strategy = strategy
        self._workers = Workers(strategy)
        self._first = strategy_lib.first_replica(strategy)
        self._variables = {name: variable.value for name, variable in variables.items()}

    def of_replicas(self) -> dict[str, tf.Tensor]:
        """The values of all replicas by name, (replicas, ...) each, in host memory; all workers must call this."""
        with tf.device(_HOST):
            own = [tf.stack(self._local(variable)) for variable in self._variables.values()]
            of_workers = self._workers.gather(own)
            values = [tf.reshape(value, [-1, *value.shape[2:]]) for value in of_workers]
        return dict(zip(self._variables, values, strict=True))

    def assign(self, values: Mapping[str, tf.Tensor]) -> None:
        """Gives every replica its own of such values."""
        for name, variable in self._variables.items():
            for number, own in enumerate(self._local(variable), start=self._first):
                own.assign(values[name][number])

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Every replica has the average within this context, and what it had before at its end; for all workers."""
        before = self.of_replicas()
        for name, variable in self._variables.items():
            variable.assign(average(before[name]))
        try:
            yield
        finally:
            self.assign(before)

    def _local(self, variable: tf.Variable) -> Sequence[tf.Variable]:
        return self._strategy.experimental_local_results(variable)


def average(values: tf.Tensor) -> tf.Tensor:
    """The mean over the first dimension, which counts replicas; of integers, which have none, the first one's value.

    What is the same on all replicas stays so to the last bit.
    """
    with tf.device(_HOST):
        if not values.dtype.is_floating:
            return values[0]
        mean = tf.cast(tf.reduce_mean(tf.cast(values, tf.float64), axis=0), values.dtype)
        return tf.where(tf.reduce_all(values == values[0], axis=0), values[0], mean)


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


def changed_by_layers(model: keras.Model) -> list[keras.Variable]:
    """Returns all variables of a model that were made as not trainable, seeds included; no weights that are frozen."""
    return [variable for variable in model.non_trainable_variables if not variable.value.trainable]


@contextlib.contextmanager
def kept(changing: Sequence[keras.Variable], where: tf.Tensor | None = None) -> Iterator[None]:
    """Restores variables at the end of a context, whatever layers have changed within it.

    Call it in replica context, while tracing.

    Args:
      changing: the variables, for example `changed_by_layers`.
      where: scalar bool, whether they are restored; None: they are.
    """
    variables = [variable.value for variable in changing]
    before = [tf.identity(variable) for variable in variables]
    yield

    def restore() -> None:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)

    if where is None:
        restore()
    elif variables:
        run_if(where, restore)


def run_if(condition: tf.Tensor, function: Callable[[], None]) -> None:
    """Runs `function`, which changes variables, where the scalar bool `condition` holds."""

    def run() -> tf.Tensor:
        function()
        return tf.constant(True)

    tf.cond(condition, run, lambda: tf.constant(False))


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
