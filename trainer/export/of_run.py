"""The export of a run that is there, as the command and `Run.export` ask for it."""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from input_pipelines.raw_features import RawFeature
from input_pipelines.rows import opening as rows_opening
from trainer.common.errors import ConfigError
from trainer.common.trust import Trust
from trainer.config.settings import Config
from trainer.export import examples as examples_lib
from trainer.export import exporting, formats, opening, page
from trainer.export.examples import Arrays
from trainer.export.exporting import Exported
from trainer.output.workdir import Workdir
from trainer.run import restored as restored_lib

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


class Wanted(NamedTuple):
    """An export that is asked for.

    Attributes:
      format: its name, one of `formats.FORMATS`.
      output: the file or folder, which `formats.check_output` has admitted.
      shown: the same as it was given.
      command: what makes the export, for the page beside it.
      best: whether to take the best checkpoint instead of the last one.
      averaged: whether to take the moving averages of the variables, where the run keeps them.
      source: the source whose data are to be answered, where the run has several.
      tolerance: by how much outputs may differ from the trainer's; None: what the precision allows.
    """

    format: str
    output: pathlib.Path
    shown: str
    command: str
    best: bool = False
    averaged: bool = True
    source: str | None = None
    tolerance: float | None = None


def export(
    config: Config, workdir: Workdir, strategy: tf.distribute.Strategy, trust: Trust, wanted: Wanted
) -> Exported:
    """Exports a run; reads no data but a few examples of the validation split, where they are there.

    Args:
      config: the run's configuration.
      workdir: the run, which may be training meanwhile.
      strategy: the devices.
      trust: whose code may be called where the data name it.
      wanted: what is asked for.

    Raises:
      ConfigError: there is no such checkpoint or source, or the run cannot be exported in this format.
      RunError: what was written does not run, or does not agree with the trainer; nothing of it is left.
    """
    restored = restored_lib.build(config, workdir, strategy, trust, best=wanted.best, averaged=wanted.averaged)
    field, source = rows_opening.chosen(config.dataset, wanted.source)
    trained = opening.trained(restored, str(workdir.shown), field, source)
    examples = examples_lib.of(trained, restored, field, source, trust)
    if formats.FORMATS[wanted.format].inputs == formats.RAW:
        _refuse_pictures(trained.features, examples.raw, wanted.format)
    text = page.text(trained, examples, wanted.format, wanted.shown, wanted.command)
    return exporting.export(trained, examples, wanted.format, wanted.output, text, wanted.tolerance)


def _refuse_pictures(features: Mapping[str, RawFeature], raw: Arrays, name: str) -> None:
    """Raises ConfigError where the run's pictures are in a format that only Python decodes."""
    for feature, each in features.items():
        others = [one for one in raw[feature] if not one.startswith((_PNG, _JPEG))] if each.picture is not None else []
        if others:
            reason = (
                f"decodes PNG and JPEG, but pictures of the feature {feature!r} are in a format that Python decodes"
            )
            raise ConfigError("--format", name, f"{reason} (Pillow); store them as PNG or JPEG")
