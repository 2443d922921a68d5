"""A scan of all data of an experiment: every example is read and prepared once, and what is wrong is gathered."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import keras
import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from input_pipelines import configuration, examples, names, opening
from input_pipelines.configuration import TRAIN, SourceConfig
from input_pipelines.names import Names
from input_pipelines.preparation import preparation
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.sources import left_out
from input_pipelines.sources.source import Source
from trainer.common.errors import ConfigError, NotPreparedError, UntrustedError, with_notes
from trainer.common.trust import NOBODY, Trust
from trainer.config.settings import Config
from trainer.describe.scan import expectations
from trainer.describe.scan.counting import PartCounts
from trainer.describe.scan.duplicates import Duplicates, digests
from trainer.describe.scan.expectations import Expectations, Structure
from trainer.describe.scan.findings import Findings
from trainer.describe.scan.parts import ArraysPart, Part, SourcePart
from trainer.describe.scan.reading import Readable
from trainer.run import experiment
from trainer.run import network as network_lib

_DEVICE = "/cpu:0"


class Scan(NamedTuple):
    """All that was found.

    Attributes:
      counts: (split of a source, its counts), those of training first.
      names: of columns and classes.
      notes: lines about what was left out, and others that a run says at its start.
      duplicates: lines about equal examples.
      wrong: lines about all for which training would fail.
      wrong_count: how many there are, those of which there are too many for lines too.
    """

    counts: list[tuple[Part, PartCounts]]
    names: Names
    notes: list[str]
    duplicates: list[str]
    wrong: list[str]
    wrong_count: int


class _Opened(NamedTuple):
    """The data as they are opened, and what could be made of their form."""

    parts: list[Part]
    structures: Mapping[str, Structure]
    names: Names
    notes: list[str]


def scan(config: Config, console: Console, trust: Trust = NOBODY) -> Scan:
    """Reads all data of a configuration and builds its experiment, on this machine's CPU.

    GPUs are to be hidden before (`strategy.hide_gpus`).

    Args:
      config: the resolved configuration.
      console: shows the progress.
      trust: whose code may be called where the data name it.

    Raises:
      NotPreparedError: a dataset is to be downloaded first.
      UntrustedError: the data name code that is not trusted.
    """
    strategy, findings = tf.distribute.OneDeviceStrategy(_DEVICE), Findings()
    network_lib.set_arithmetic(config.precision, config.tensor_float_32, config.deterministic, strategy)
    with console.status("Opening the data and learning from the training split ..."):
        opened = _open(config, findings, trust)
        expected = None
        if len(opened.structures) == len(configuration.parts(config.dataset)):
            with _gathered(findings):
                expected = expectations.of(config, opened.structures, strategy)
    counts, duplicates = _read(opened.parts, expected, findings, console)
    notes = opened.notes
    if not findings:
        # What is left are mistakes that no example shows by itself.
        with console.status("Building the experiment as training does ..."), _gathered(findings):
            notes = list(experiment.build(config, strategy, trust=trust).notes)
    return Scan(counts, opened.names, notes, duplicates, findings.lines(), len(findings))


@contextlib.contextmanager
def _gathered(findings: Findings) -> Iterator[None]:
    """Turns a ConfigError into a finding."""
    try:
        yield
    except (NotPreparedError, UntrustedError):
        raise
    except ConfigError as error:
        findings.add(error.field, with_notes(error))


def _open(config: Config, findings: Findings, trust: Trust) -> _Opened:
    fields = configuration.parts(config.dataset)
    arrays = {field: each for field, each in fields.items() if configuration.is_function(each.name)}
    files = {field: each for field, each in fields.items() if field not in arrays}
    parts, structures, found, notes = [], {}, [], []
    sources: dict[str, Mapping[str, Source]] = {}
    sized = set()
    for field, each in files.items():
        with _gathered(findings):
            sources[field] = opening.open_source(each, field, trust)
            notes += left_out.notes(each, field, sources[field])
            sources[field] = opening.sized(each, field, sources[field])
            sized.add(field)
    prepared = _prepared(files, sources, findings) if len(sized) == len(files) else {}
    for field, of_source in sources.items():
        made = prepared.get(field)
        parts += [SourcePart(field, split, source, made) for split, source in of_source.items()]
        if made is not None:
            structures[field] = Structure(fields[field], made.spec, made.categories())
            found.append(names.of(made, of_source[TRAIN]))
    for field, each in arrays.items():
        with _gathered(findings):
            loaded = examples.load(each, floatx=keras.config.floatx(), field=field)
            parts += [ArraysPart(field, split, of_split) for split, of_split in loaded.items()]
            spec = tf.nest.map_structure(
                lambda array: tf.TensorSpec(array.shape[1:], tf.as_dtype(array.dtype)), loaded[TRAIN].structure
            )
            structures[field] = Structure(each, spec, {})
    parts.sort(key=lambda part: part.split != TRAIN)
    return _Opened(parts, structures, names.merged(found), notes)


def _prepared(
    files: Mapping[str, SourceConfig], sources: Mapping[str, Mapping[str, Source]], findings: Findings
) -> dict[str, Preparation]:
    """The preparation of every source, learned from what can be read; none where it cannot be built."""
    trains = {field: (files[field], _readable(field, of_source[TRAIN])) for field, of_source in sources.items()}
    with _gathered(findings):
        prepared = preparation.build(trains)
        for each in prepared.values():
            each.spec  # noqa: B018 (what cannot be traced is one finding, not one for each example)
        return prepared
    return {}


def _readable(field: str, train: Source) -> Source | Readable:
    return train if train.records is None else Readable(train, f"{field}.splits.{TRAIN}")


def _read(
    parts: list[Part], expected: Expectations | None, findings: Findings, console: Console
) -> tuple[list[tuple[Part, PartCounts]], list[str]]:
    """Counts of every part, and lines about equal examples."""
    found, duplicates = [], Duplicates()
    with _progress(sum(map(len, parts)), console) as advance:
        for number, part in enumerate(parts):
            counts = PartCounts()
            found.append((part, counts))
            with _gathered(findings):
                for chunk in part.chunks(findings):
                    counts.add_features({name: chunk.features[name] for name in part.raw}, part.optional)
                    inputs, targets = (
                        digests(chunk.features, own, len(chunk.places)) for own in (part.inputs, part.targets)
                    )
                    duplicates.add(number, chunk.places, inputs, targets)
                    for batch in chunk.batches:
                        wrong = batch.unusable if expected is None else expected.check(part, batch, findings)
                        counts.add_targets(batch.arrays, wrong)
                    advance(len(chunk.places))
    return found, duplicates.lines([part.split for part in parts], [part.where for part in parts])


@contextlib.contextmanager
def _progress(total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """Shows a bar on a terminal; gives what moves it by some examples."""
    columns = (TextColumn("examples"), MofNCompleteColumn(), BarColumn(bar_width=24), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("scan", total=total)
        yield lambda count: progress.advance(task, count)
