"""From a run to predictions: rows are read, predicted and written at the same time, each by a thread of its own."""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines import configuration
from input_pipelines.configuration import TRAIN
from input_pipelines.rows import opening, prepared
from input_pipelines.rows.prepared import Prepared
from trainer.common.errors import ConfigError, unknown
from trainer.common.trust import Trust
from trainer.components.prediction_parts import Output
from trainer.predict import arguments, batches, predictor, table, writers
from trainer.predict.ahead import ahead
from trainer.predict.batches import Batch
from trainer.predict.predictor import Predictor
from trainer.predict.writers import Writer
from trainer.run.restored import Restored

_LARGEST, _BYTES, _TIMES = 4096, 2**24, 16


@dataclasses.dataclass(frozen=True)
class Asked:
    """The rows that are to be predicted, and how.

    Attributes:
      split: a split of the run; None: `data` says which rows.
      data: a file or folder, or arrays by feature; None: `split` does.
      source: which of several sources they are of.
      keep: columns that are copied beside the predictions.
      heads: whether the heads are given as they are, too.
      batch_size: rows that are predicted at once, on all replicas; None: by their size.
    """

    split: str | None = None
    data: Any = None
    source: str | None = None
    keep: Sequence[str] = ()
    heads: bool = False
    batch_size: int | None = None


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A prediction that is about to be made.

    Attributes:
      predictor: predicts batches.
      kept: the columns that are copied.
      batches: the rows.
      count: of the rows; None: not known yet.
    """

    predictor: Predictor
    kept: tuple[str, ...]
    batches: Iterable[Batch]
    count: int | None

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The predicted tensors, in their order."""
        return self.predictor.outputs


def start(restored: Restored, asked: Asked, trust: Trust) -> Prediction:
    """Opens the rows and reads the first batch.

    Raises:
      ConfigError: they cannot be read, or nothing can be predicted.
    """
    rows, count, kept = _rows(restored, asked, trust)
    replicas = restored.strategy.num_replicas_in_sync
    size = max(replicas, asked.batch_size or _default_size(restored))
    cut = iter(batches.cut(rows, size))
    first = next(cut, None)
    if first is None:
        raise ConfigError("--data" if asked.split is None else "--split", asked.split or asked.data, "holds no row")
    size = min(size, max(replicas, first.count))  # of a few rows alone
    built = predictor.build(restored, heads=asked.heads, size=size)
    return Prediction(built, kept, itertools.chain([first], cut), count)


def to_file_or_arrays(
    prediction: Prediction,
    path: pathlib.Path | None,
    advance: Callable[[int], object] = lambda rows: None,
) -> dict[str, np.ndarray] | pathlib.Path:
    """Predicts all rows into a file, which it returns; or, without one, returns them as arrays.

    Args:
      prediction: the prediction, which can be made once.
      path: the file, of a kind that can be written.
      advance: gets the number of rows of each batch that has been taken.

    Raises:
      ConfigError: a row cannot be read, or the file cannot hold what is predicted.
      RunError: the file cannot be written.
    """
    flat = path is not None and path.suffix.lower() == arguments.CSV
    table.check_names(prediction.outputs, prediction.kept, flat=flat)
    if path is None:
        held = writers.Arrays(prediction.outputs)
        _write(prediction, held, advance)
        return held.whole()
    with writers.writing(path, prediction.outputs) as writer:
        _write(prediction, writer, advance)
    return path


def _write(prediction: Prediction, writer: Writer, advance: Callable[[int], object]) -> None:
    for batch, found in ahead(_predicted(prediction.predictor, ahead(prediction.batches))):
        writer.add(batch.first, found, batch.kept)
        advance(batch.count)


def _predicted(predict: Predictor, parts: Iterable[Batch]) -> Iterator[tuple[Batch, Mapping[str, Any]]]:
    for number, batch in enumerate(parts):
        yield batch, predict(batch.inputs, batch.count, number)


def _rows(restored: Restored, asked: Asked, trust: Trust) -> tuple[Iterator[Prepared], int | None, tuple[str, ...]]:
    """The rows as they are asked for, how many they are, and the columns that are kept."""
    dataset = restored.config.dataset
    field, config = opening.chosen(dataset, asked.source)
    if configuration.is_function(config.name):
        return _of_function(restored, asked, field, several=dataset.sources is not None)
    if asked.split is not None:
        opened = opening.of_split(config, field, asked.split, restored.kept, trust)
    elif isinstance(asked.data, str):
        opened = opening.of_path(config, field, asked.data, restored.kept)
    elif not hasattr(asked.data, "items"):
        reason = "must be the path of a file or folder, a frame of pandas or a dictionary of columns"
        raise ConfigError("data", type(asked.data).__name__, reason)
    else:
        opened = opening.of_columns(asked.data, field, restored.kept, "data")
    kept = tuple(asked.keep) or opening.usually_kept(opened)
    return prepared.of_rows(opened, kept), opened.rows.count, kept


def _of_function(
    restored: Restored, asked: Asked, field: str, *, several: bool
) -> tuple[Iterator[Prepared], int | None, tuple[str, ...]]:
    if asked.keep:
        raise ConfigError("--keep", asked.keep[0], "names a column, and arrays that a function gives have none")
    splits = restored.kept.data.splits
    if asked.split is None:
        if isinstance(asked.data, str):
            opening.check_path(restored.config.dataset)
        whole = prepared.of_inputs(asked.data, splits[TRAIN].spec["inputs"], "data")
        return iter([whole]), len(whole), ()
    if several:
        raise ConfigError(
            "--source", asked.source, "is a function beside other sources, which has no splits of its own"
        )
    if asked.split not in splits:
        raise unknown("--split", asked.split, "split", splits)
    return prepared.of_split(splits[asked.split], asked.split), len(splits[asked.split]), ()


def _default_size(restored: Restored) -> int:
    """Rows whose inputs take up to 16 MiB, within reason of what the run trained with."""
    spec = restored.kept.data.splits[TRAIN].spec["inputs"]
    of_row = sum(leaf.dtype.size * math.prod(leaf.shape.as_list()) for leaf in tf.nest.flatten(spec))
    trained = restored.config.batch_size
    return max(trained, min(_LARGEST, _TIMES * trained, _BYTES // max(1, of_row)))
