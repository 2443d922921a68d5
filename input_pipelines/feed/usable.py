"""Refusal of numbers that nothing can be computed from, in the same words whether a split is held or streamed."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from input_pipelines.feed import splits
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.sources.source import Source
from trainer.common.errors import ConfigError

_FILL = "; the operation 'fill' puts a number in the place of NaN"


class Check(NamedTuple):
    """A check of one tensor of a prepared batch.

    Attributes:
      name: its dotted name, `targets.y`.
      wrong: (examples,) bool: those that cannot be used.
      words: a string scalar that says what the first of them holds; nothing in particular where there is none.
    """

    name: str
    wrong: tf.Tensor
    words: tf.Tensor


def numbers(batch: splits.Structure, preparation: Preparation) -> Iterator[Check]:
    """Yields checks that inputs and targets are finite, weights finite and at least 0, categories of inputs known."""
    categories = preparation.categories()
    for name, values in splits.per_example(batch):
        part, _, own = name.partition(".")
        if values.dtype.is_floating:
            wrong, words = tf.logical_not(tf.math.is_finite(values)), "holds NaN or infinity"
        elif part == "inputs" and (own in categories or (categories and not own)):
            wrong, words = values < 0, "holds NaN or a value that is no category"
        else:
            continue
        if part == "weights":
            wrong, words = tf.logical_or(wrong, values < 0), "must be finite and at least 0"
        kind = part.removesuffix("s")
        column = _column(wrong, _columns(part, own, preparation))
        text = [f"{kind} {own!r} {words}" if own else f"the {kind} {words}", column, _FILL * (part == "inputs")]
        yield Check(name, _of_examples(wrong), tf.strings.join(text))


def check(batch: splits.Structure, preparation: Preparation, source: Source, first: int, field: str) -> None:
    """Raises ConfigError where `numbers` finds some that cannot be used, naming the file and the row or record.

    Args:
      batch: examples of a split.
      preparation: what made it.
      source: the split.
      first: the place in the split of the batch's first example.
      field: the configuration's key of the split.
    """
    for name, wrong, words in numbers(batch, preparation):
        if wrong.numpy().any():
            raise ConfigError(
                f"{field}.{name}", source.where(first + int(wrong.numpy().argmax())), words.numpy().decode()
            )


def outside(labels: Any, classes: int, ignored: int | None) -> Any:
    """Returns the mask of labels that are none of the classes 0 to `classes` - 1, nor the one that a loss ignores.

    Args:
      labels: numbers, an array or a tensor, which must not be of unsigned whole numbers.
      classes: how many classes there are.
      ignored: a number that means no label, or None.
    """
    wrong = (labels < 0) | (labels >= classes)
    if not tf.as_dtype(labels.dtype).is_integer:
        wrong = wrong | (labels % 1 != 0)
    return wrong if ignored is None else wrong & (labels != ignored)


def class_words(label: str, classes: int) -> tuple[str, str, str]:
    """Returns the words for a label that is none of the classes, to be joined."""
    return "holds ", label, f", which is none of the classes 0 to {classes - 1}"


def classes(target: str, labels: tf.Tensor, count: int, ignored: int | None) -> Check:
    """Returns the check that labels are classes; see `outside`."""
    signed = labels if labels.dtype.is_floating else tf.cast(labels, tf.int64)
    wrong = outside(signed, count, ignored)
    text = tf.strings.as_string(tf.cast(tf.boolean_mask(signed, wrong)[:1], tf.float64), shortest=True)
    words = [f"target {target!r} ", *class_words(tf.strings.reduce_join(text), count)]
    return Check(f"targets.{target}", _of_examples(wrong), tf.strings.join(words))


def assertion(check: Check) -> tf.Operation:
    """Returns the operation that fails, with the check's words, where an example cannot be used."""
    return tf.debugging.Assert(tf.logical_not(tf.reduce_any(check.wrong)), [check.words])


def _of_examples(wrong: tf.Tensor) -> tf.Tensor:
    return tf.reduce_any(tf.reshape(wrong, [tf.shape(wrong)[0], -1]), axis=1)


def _columns(part: str, own: str, preparation: Preparation) -> tuple[str, ...]:
    """The features side by side in an input or target."""
    if part == "weights":
        return ()
    chains = preparation.inputs if part == "inputs" else preparation.targets
    return chains[own].features if own else next(iter(chains.values())).features


def _column(wrong: tf.Tensor, columns: tuple[str, ...]) -> tf.Tensor | str:
    """The words for the column of the first wrong number, where an example is one number of each of several columns."""
    if len(columns) < 2 or wrong.shape[1:].as_list() != [len(columns)]:
        return ""
    first = tf.cond(tf.reduce_any(wrong), lambda: tf.where(wrong)[0, 1], lambda: tf.constant(0, tf.int64))
    return tf.strings.join([" in column '", tf.gather(tf.constant(columns), first), "'"])
