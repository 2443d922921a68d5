"""Numbers that follow a schedule over steps: learning rates and losses' weights."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.common import durations, import_paths
from trainer.common.durations import Timeline
from trainer.common.errors import ConfigError, first_line
from trainer.components import keras_objects

LearningRateSchedule = keras.optimizers.schedules.LearningRateSchedule


class RunSchedule(LearningRateSchedule):
    """A schedule that follows the run's steps, also those in which its optimizer is skipped.

    Keras calls a schedule with the number of updates that its optimizer has made. Within `at` that number is ignored.

    Attributes:
      schedule: gives the value at a step.
    """

    def __init__(self, schedule: LearningRateSchedule):
        super().__init__()
        self.schedule = schedule
        self._step: tf.Tensor | None = None

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """The value at the run's step where `at` gives one, else at `step`."""
        return self.schedule(step if self._step is None else self._step)

    @contextlib.contextmanager
    def at(self, step: tf.Tensor) -> Iterator[None]:
        """Within this context the value is that of a step of the run (counted from 0), whoever asks for it.

        Enter it outside `strategy.run`, while tracing: every replica then uses the one tensor.
        """
        self._step = step
        try:
            yield
        finally:
            self._step = None  # a tensor of a graph is of no use outside it


def at(step: tf.Tensor | int, values: Sequence[float | LearningRateSchedule]) -> tf.Tensor:
    """The values at a step (counted from 0), some of them constant: (len(values),) float64."""
    # `tf.cast(0.3, tf.float64)` goes through float32.
    numbers = (
        tf.cast(value(step), tf.float64) if callable(value) else tf.constant(value, tf.float64) for value in values
    )
    return tf.stack(list(numbers))


def build(spec: Mapping[str, Any], field: str, timeline: Timeline) -> LearningRateSchedule:
    """A Keras schedule by name; its `..._steps` and `boundaries` in steps, epochs or examples.

    Args:
      spec: `name` and arguments.
      field: the configuration's key, for errors.
      timeline: of the whole run, over which a cosine decays where `decay_steps` is not given.

    Raises:
      ConfigError: a name or an argument that does not exist or cannot be used.
    """
    keras_schedules = keras.optimizers.schedules
    name, arguments = keras_objects.split(spec)
    found = keras_objects.find(name, keras_schedules, LearningRateSchedule, kind="schedule", field=f"{field}.name")

    def steps(value: Any, key: str) -> int:
        if value == 0:
            return 0
        return timeline.to_steps(durations.check(value, f"{field}.{key}"), f"{field}.{key}")

    for key in list(arguments):
        if key.endswith("_steps"):
            arguments[key] = steps(arguments[key], key)
        elif key == "boundaries" and isinstance(arguments[key], list):
            arguments[key] = [steps(boundary, f"{key}.{index}") for index, boundary in enumerate(arguments[key])]
    if found is keras_schedules.CosineDecay and "decay_steps" not in arguments:
        arguments["decay_steps"] = max(1, timeline.steps - arguments.get("warmup_steps", 0))
    keras_objects.make_numbers(found, arguments, field, lists=("values",))
    schedule = keras_objects.build(found, arguments, field=field, base=LearningRateSchedule)
    try:
        float(schedule(tf.zeros([], tf.int64)))
    except import_paths.USER_ERRORS as error:
        raise ConfigError(field, name, f"gives no number at step 0: {first_line(error)}") from error
    return schedule
