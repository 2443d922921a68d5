"""A run as an object of Python: its reports, its model, its evaluation."""

import contextlib
import functools
import os
import pathlib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from input_pipelines.configuration import VALIDATION
from trainer.api import configuration, devices, process
from trainer.api.configuration import Given
from trainer.common import import_paths, schema
from trainer.common import trust as trust_lib
from trainer.common.trust import Trust
from trainer.config import loading
from trainer.distributed import strategy as strategy_lib
from trainer.export import formats, of_run
from trainer.output import workdir as workdir_lib
from trainer.output.history import Reports
from trainer.output.workdir import Workdir
from trainer.predict import arguments, predicting
from trainer.run import evaluate as evaluate_lib
from trainer.run import restored


class History(list):
    """The reports of a run as dictionaries, in the order of its `metrics.jsonl`: `step`, `split` and the values."""

    def frame(self) -> Any:
        """Returns the reports as a frame of pandas, a column for every value; raises ImportError without pandas."""
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("Run.history.frame() needs the package pandas") from error
        return pd.DataFrame(list(self))


class Run:
    """A run, which `train` or `load_run` gives.

    Args:
      path: its directory.
      given: its configuration.
      trust: whose code may be called where its data name it.
      best: whether `model` and `evaluate` are of the best checkpoint instead of the last one.
      averaged: whether `model` holds the moving averages of its variables, where the run keeps them (`ema`).
      shown: the directory as messages name it.

    Attributes:
      path: the run's directory.
    """

    def __init__(
        self,
        path: pathlib.Path,
        given: Given,
        trust: Trust,
        *,
        best: bool = False,
        averaged: bool = True,
        shown: pathlib.Path | None = None,
    ):
        self.path = path
        self._given, self._best, self._averaged = given, best, averaged
        self._trust = trust.naming(schema.as_dict(given.config))
        self._workdir = Workdir(path, given=shown)

    def __repr__(self) -> str:
        last = self.history[-1] if self.history else None
        return f"<Run {str(self._workdir.shown)!r}" + (f", step {last['step']}>" if last else ", no report>")

    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved configuration, every setting of it, as nested dictionaries; objects stand as `object:<name>`."""
        return types.MappingProxyType(schema.as_dict(self._given.config))

    @property
    def history(self) -> History:
        """The reports so far, read from the run's directory."""
        reports = Reports(self._workdir.metrics)
        return History({"step": each.step, "split": each.split, **each.values} for each in reports)

    @functools.cached_property
    def model(self) -> keras.Model:
        """A plain Keras model with the run's variables, made when it is first asked for.

        It is a model of the caller's own: it may be called, saved, changed and trained further, and the run keeps what
        it has.

        Raises:
          ConfigError: there is no good checkpoint, or it does not fit.
        """
        with self._inside() as strategy:
            parts = (self._given.config, self._workdir, strategy, self._trust)
            return restored.build(*parts, best=self._best, averaged=self._averaged).model

    def evaluate(self, split: str = VALIDATION, *, data: Any = None, source: str | None = None) -> dict[str, Any]:
        """Evaluates the run's checkpoint on a split: `step`, `split` and the values; writes nothing.

        Args:
          split: a split beside `train`.
          data: a file or folder with inputs and targets to evaluate on instead; the result's `split` is `data` then.
          source: which of several sources the file is of.

        Raises:
          ConfigError: there is no good checkpoint, no such split, or the file cannot be read.
        """
        with self._inside() as strategy:
            quiet, parts = Console(quiet=True), (self._given.config, self._workdir, strategy)
            if data is None:
                report = evaluate_lib.evaluate(*parts, quiet, self._trust, split, best=self._best)
            else:
                path = os.fspath(data)
                report = evaluate_lib.evaluate_data(*parts, path, quiet, self._trust, source, best=self._best)
        return {"step": report.step, "split": report.split, **report.values}

    def predict(
        self,
        split: str | None = None,
        *,
        data: Any = None,
        output: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        keep: Sequence[str] = (),
        heads: bool = False,
        source: str | None = None,
        batch_size: int | None = None,
        strategy: str | tf.distribute.Strategy = "one_device",
        virtual_devices: int | None = None,
    ) -> dict[str, np.ndarray] | pathlib.Path:
        """Predicts what the losses' targets are, in their own units or as classes and probabilities.

        Args:
          split: a split of the run.
          data: instead of it a file or folder of the kind that the run was trained on; or the columns themselves, a
            frame of pandas or a dictionary of arrays (of a function's data: its inputs).
          output: a file to write, `.parquet`, `.csv` or `.npz`; None: the arrays are returned.
          overwrite: whether to replace a file that is there.
          keep: columns of the data that are copied.
          heads: whether to give what the model's heads say, too, as `head/<head>`.
          source: which of several sources the rows are of.
          batch_size: rows that are predicted at once; None: by their size.
          strategy: as of `trainer.train`.
          virtual_devices: as of `trainer.train`.

        Returns:
          The path of the file; or name → (rows, ...) array: `row`, what is kept, and what is predicted.

        Raises:
          ConfigError: something that was given cannot be used.
          RunError: the file cannot be written.
        """
        base = workdir_lib.current()
        arguments.check_rows(split, data)
        path = None if output is None else arguments.output(os.fspath(output), base, overwrite=overwrite)
        given = os.fspath(data) if isinstance(data, os.PathLike) else data
        asked = predicting.Asked(split, given, source, keep, heads=heads, batch_size=batch_size)
        with process.preserved(), import_paths.objects(self._given.objects):
            on = devices.chosen(strategy, virtual_devices, allow_cpu=False)
            parts = (self._given.config, self._workdir, on, self._trust)
            network = restored.build(*parts, best=self._best, averaged=self._averaged)
            return predicting.to_file_or_arrays(predicting.start(network, asked, self._trust), path)

    def export(
        self,
        output: str | os.PathLike[str],
        format: str = "saved_model",
        *,
        source: str | None = None,
        tolerance: float | None = None,
    ) -> pathlib.Path:
        """Writes the run's model for programs that have nothing of this project, with a page that describes it.

        It is there only once its own runtime has loaded and run it in a process of its own, and it agreed.

        Args:
          output: the file or folder, which must not be there.
          format: "saved_model" takes raw data; "keras", "tflite" and "onnx" take prepared numbers.
          source: of a run with several `dataset.sources`, the one whose data are to be answered.
          tolerance: by how much outputs may differ from the trainer's, relative to the largest of each; None: 1e-6, and
            more in half precision.

        Returns:
          The file or folder; the page is `signature.md` in a folder, `<file>.md` beside a file.

        Raises:
          ConfigError: the run cannot be exported so.
          RunError: what was written does not run or does not agree; nothing of it is left.
        """
        shown = os.fspath(output)
        path = workdir_lib.current() / shown
        formats.check(format)
        formats.check_output(path, format)
        call = f"trainer.load_run({str(self._workdir.shown)!r}).export({shown!r}, format={format!r})"
        wanted = of_run.Wanted(format, path, shown, call, self._best, self._averaged, source, tolerance)
        with self._inside() as strategy:
            return of_run.export(self._given.config, self._workdir, strategy, self._trust, wanted).path

    @contextlib.contextmanager
    def _inside(self) -> Iterator[tf.distribute.Strategy]:
        """A context with the run's objects, and one device; the process is as it was afterwards."""
        with process.preserved(), import_paths.objects(self._given.objects):
            strategy_lib.build("one_device")  # lays out the devices
            yield tf.distribute.get_strategy()  # a model must not keep another one


def load_run(
    workdir: str | os.PathLike[str],
    *,
    best: bool = False,
    averaged: bool = True,
    config: Any = None,
    trust: Sequence[str] = (),
) -> Run:
    """Opens a run that is there, whoever trained it and in whichever process; nothing is trained or written.

    Args:
      workdir: the run's directory.
      best: take the best checkpoint (by the configuration's `best`) instead of the last one.
      averaged: take the moving averages of the variables where the run keeps them (`ema`), as evaluations do.
      config: what the run was trained with, where that held objects (a file, a ConfigDict or a dictionary); its objects
        stand for those of the run.
      trust: packages whose code the run's own `config.json` may name, beside the project's and what `config` names.

    Raises:
      ConfigError: there is no run, it names objects or code of which `config` and `trust` say nothing, or `best` is
        asked for and the run keeps none.
    """
    with process.preserved():
        run = workdir_lib.open_run(os.fspath(workdir)).absolute()
        trusted, found = trust_lib.in_packages(trust), {}
        if config is not None:
            given = configuration.read(config)
            trusted, found = trusted.naming(schema.as_dict(given.config)), given.objects
        saved = loading.load_trusted(run.config, (), trusted)
        with import_paths.objects(found):
            trusted.check_definitions(schema.as_dict(saved), str(run.path))
        return Run(run.path, Given(saved, found), trusted, best=best, averaged=averaged, shown=run.shown)
