"""Training data on the device that trains, whose batches are gathered in the graph by their rows."""

import tensorflow as tf

from input_pipelines.feed import splits
from input_pipelines.feed.in_memory import InMemory
from input_pipelines.feed.splits import Split
from trainer.common.durations import Timeline
from trainer.common.errors import ConfigError
from trainer.config.settings import LOOP, Config
from trainer.distributed import strategy as strategy_lib
from trainer.step.gathered import OnDevice

_BATCH_BYTES = 2**20  # larger ones take longer to gather than the step waits for one that is made ahead of time
_STEPS = 256  # whose rows are made together
_ROWS = 2**22  # of a call of the loop, which are made before it begins: 16 MiB, a tenth of a second


def check(config: Config, train: Split, strategy: tf.distribute.Strategy) -> None:
    """Raises ConfigError where training on this split or these devices is to be a single XLA program, and cannot be."""
    against = None
    if config.compile != LOOP:
        return
    if config.steps_per_loop > (most := _ROWS // config.batch_size):
        reason = f"must be at most {most} with compile='loop' and this batch_size: a call takes its examples at once"
        raise ConfigError("steps_per_loop", config.steps_per_loop, reason)
    if (count := strategy.num_replicas_in_sync) > 1:
        against = f"is for one device, and there are {count}; use 'passes'"
    elif not isinstance(train, InMemory):
        against = "needs training data in memory, and these are streamed or mixed; use 'passes'"
    elif train.augmentation is not None:
        against = "takes examples as they are in memory, and these are augmented; use 'passes'"
    elif texts := [name for name, leaf in splits.per_example(train.spec) if leaf.dtype == tf.string]:
        against = f"takes numbers, and {texts[0]} is text; leave it 'off'"
    if against is not None:
        raise ConfigError("compile", LOOP, against)


def notes(compile_: str, draws: bool) -> tuple[str, ...]:
    """Lines for the user: whether the model's random numbers are others than without XLA."""
    if compile_ != LOOP or not draws:
        return ()
    return ("the model or a loss draws random numbers, and with compile='loop' others than without",)


def is_faster(config: Config, train: Split, strategy: tf.distribute.Strategy) -> bool:
    """True where gathering a small batch within the step takes less time than asking a pipeline for it."""
    if not isinstance(train, InMemory) or train.augmentation is not None or config.micro_batches > 1:
        return False
    if config.steps_per_loop * config.batch_size > _ROWS:
        return False
    example = sum(array.nbytes for array in tf.nest.flatten(train.examples.structure)) / len(train)
    return example * config.batch_size <= _BATCH_BYTES and strategy_lib.is_one_cpu(strategy)


def build(
    train: InMemory, config: Config, first_step: int, timeline: Timeline, strategy: tf.distribute.Strategy
) -> OnDevice:
    """Puts a split on the strategy's only device; the loop is traced for calls of `steps_per_loop` steps at most."""
    device = strategy_lib.only_device(strategy)
    with tf.device(device):
        examples = tf.nest.map_structure(tf.constant, train.examples.structure)
    steps = min(config.steps_per_loop, timeline.steps)
    at_once = max(steps, min(_STEPS, timeline.steps))
    rows = train.rows(batch_size=config.batch_size, seed=config.seed, first_step=first_step, steps=at_once)
    return OnDevice(device, examples, rows.as_numpy_iterator(), steps)
