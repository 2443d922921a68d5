"""Predicts with a trained run: python -m trainer.predict --workdir=runs/<run> --split=test --output=predictions.csv."""

from trainer.common import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # what is imported below takes a while

import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from trainer import command_line
from trainer.common import schema
from trainer.common import trust as trust_lib
from trainer.common.errors import ConfigError, NotPreparedError, UntrustedError
from trainer.config import loading
from trainer.output import workdir
from trainer.predict import arguments

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_SPLIT = flags.DEFINE_string("split", None, "A split of the run's data; of TFDS any that it can name (test[:10%]).")
_DATA = flags.DEFINE_string("data", None, "A file or folder of the kind that the run was trained on, instead.")
_OUTPUT = flags.DEFINE_string("output", None, "File to write: .parquet, .csv or .npz.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace --output where it is there.")
_SOURCE = flags.DEFINE_string("source", None, "Which of several dataset.sources the rows are of.")
_KEEP = flags.DEFINE_list("keep", [], "Columns of the data to copy beside the predictions, such as id,name.")
_HEADS = flags.DEFINE_bool("heads", False, "Write what the model's heads give, too, as it is.")
_CHECKPOINT = command_line.checkpoint_flag()
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", None, "Rows to predict at once, on all replicas. Default: by their size.", lower_bound=1
)
_STRATEGY, _VIRTUAL_DEVICES, _ALLOW_CPU = command_line.device_flags()
_TRUST = command_line.trust_flag()

_HELP = """Predicts with a trained run, for a split of its data or for a file of yours.

  python -m trainer.predict --workdir=runs/<run> --split=validation --output=predictions.csv
  python -m trainer.predict --workdir=runs/<run> --data=new.csv --keep=id --output=predictions.parquet

For each loss it writes the value in the target's own units, or the class and the probabilities. Targets need not be in
the data. Every row comes once, in the order of the data.

Flags:
"""

_overrides: list[tuple[str, str]] = []


def main(argv: Sequence[str]) -> None:
    """Predicts what the flags ask for; exits 2 with one line where they or the data cannot be used."""
    command_line.refuse_arguments([*argv, *(f"--config.{key}" for key, _ in _overrides)])
    with command_line.errors_in_one_line():
        try:
            _predict()
        except NotPreparedError as error:
            raise ConfigError(error.field, error.value, f"{error.allowed}; --download of training does it") from error
        except UntrustedError as error:
            raise command_line.with_trust(error, "trainer.predict") from error


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Takes in flags; exits 2 with one line where it cannot, 0 after --help."""
    return command_line.parse(argv, _overrides, description=_HELP, takes_config=False)


def _predict() -> None:
    arguments.check_rows(_SPLIT.value, _DATA.value)
    if _STRATEGY.value == "multi_worker":
        raise ConfigError("--strategy", "multi_worker", "is for training; predictions take mirrored or one_device")
    base, stream, trust = workdir.current(), sys.stdout, trust_lib.in_packages(_TRUST.value)
    if _OUTPUT.value is None:
        raise ConfigError("--output", ConfigError.ABSENT, f"is missing: a file, {', '.join(arguments.ENDINGS)}")
    path = arguments.output(_OUTPUT.value, base, overwrite=_OVERWRITE.value)
    run = workdir.open_run(_WORKDIR.value)
    config = loading.load_trusted(run.config, (), trust)
    with command_line.quiet():
        command_line.import_keras()
        from rich.console import Console

        from trainer.distributed import strategy, usable_gpus  # what comes before must not wait for TensorFlow
        from trainer.predict import predicting, shown
        from trainer.run import restored

        trust.check_definitions(schema.as_dict(config), str(run.path))
    usable_gpus.check(_STRATEGY.value, virtual_devices=_VIRTUAL_DEVICES.value, allow_cpu=_ALLOW_CPU.value)
    console = Console(highlight=False, file=stream)
    built = strategy.build(_STRATEGY.value, _VIRTUAL_DEVICES.value)
    best = _CHECKPOINT.value == "best"
    network = restored.build(config, run, built, trust, best=best)
    asked = predicting.Asked(
        _SPLIT.value, _DATA.value, _SOURCE.value, _KEEP.value, heads=_HEADS.value, batch_size=_BATCH_SIZE.value
    )
    prediction = predicting.start(network, asked, trust)
    with shown.progress(console, prediction.count) as progress:
        predicting.to_file_or_arrays(prediction, path, progress.advance)
    console.print(f"Predicted by {run.shown / network.folder.relative_to(run.absolute().path)}.", soft_wrap=True)
    shown.written(console, pathlib.Path(_OUTPUT.value), progress, prediction.kept, prediction.outputs)
    command_line.refuse_lost_output(stream)


if __name__ == "__main__":
    command_line.run(main, parse_flags)
