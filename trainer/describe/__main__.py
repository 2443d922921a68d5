"""Describes an experiment before it is trained: python -m trainer.describe --config=configs/digits.py."""

from trainer.common import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # what is imported below takes a while

import pathlib
import sys
from collections.abc import Sequence

from absl import flags
from rich.console import Console

from trainer import command_line
from trainer.common import trust as trust_lib
from trainer.common.errors import ConfigError, NotPreparedError, UntrustedError, system_reason
from trainer.config import loading
from trainer.output import workdir

_CONFIG, _COMBINE, _REDUCTION = command_line.config_flags()
_TRUST = command_line.trust_flag()
_DOWNLOAD = flags.DEFINE_bool("download", False, "Download and prepare what dataset.name needs of the TFDS catalogue.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "PNG file to draw some training examples to; one that is there is kept. Default: no picture."
)
_SCAN = flags.DEFINE_bool(
    "scan",
    False,
    "Go through all data once instead: counts, equal examples, everything that is wrong. Exit code 1 where training "
    "would fail.",
)

_HELP = """Describes an experiment before it is trained: its data, its model and what a step does.

  python -m trainer.describe --config=configs/digits.py
  python -m trainer.describe --combine=pcgrad --config.batch_size=256
  python -m trainer.describe --config=my_experiment.py --output=examples.png
  python -m trainer.describe --config=my_experiment.py --scan

It prints splits, inputs and targets with their ranges, the balance of classes, the share of missing labels, what was
learned from the training split, what was left out, and how fast training examples are made; the model's layers with
shapes and parameters, which losses reach each of them, and which optimizer updates what; the method and how steps are
computed; operations per example and what is reduced across replicas. With --output it draws a few training examples as
the model gets them, after augmentation.

With --scan it goes through all data instead and prints, for every split, how many examples have each feature and each
label, smallest and largest values, labels of each class, equal examples within and across splits, what was left out,
and a line for every file, row or record for which training would fail. The exit code is 1 where there is any, else 0.

Nothing is trained and no GPU is used.

Flags:
"""

_overrides: list[tuple[str, str]] = []


def main(argv: Sequence[str]) -> None:
    """Describes what the flags ask for; exits 2 with one line where they or the experiment cannot be used.

    Exits 1 where a scan finds that training would fail.
    """
    command_line.refuse_arguments(argv)
    with command_line.errors_in_one_line():
        try:
            is_usable = _describe(Console(highlight=False, file=sys.stdout))
        except NotPreparedError as error:
            raise command_line.with_download(error, "trainer.describe") from error
        except UntrustedError as error:
            raise command_line.with_trust(error, "trainer.describe") from error
    if not is_usable:
        sys.exit(1)


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Takes in flags and overrides; exits 2 with one line where it cannot, 0 after --help."""
    return command_line.parse(argv, _overrides, description=_HELP)


def _describe(console: Console) -> bool:
    """Returns False where a scan finds that training would fail."""
    trust = trust_lib.in_packages(_TRUST.value)
    base = workdir.current()  # a user's code may go elsewhere
    path = command_line.DEFAULT_CONFIG if _CONFIG.value is None else _CONFIG.value
    with command_line.quiet():  # a configuration may import TensorFlow
        config = loading.load(path, _overrides, _COMBINE.value, _REDUCTION.value)
    output = None if _OUTPUT.value is None else _checked_output(_OUTPUT.value, base)
    if output is not None and _SCAN.value:
        raise ConfigError("--output", _OUTPUT.value, "draws examples of a description; leave it out with --scan")
    with command_line.quiet():
        command_line.import_keras()
        from trainer.describe import description  # what comes before must not wait for TensorFlow
        from trainer.distributed import strategy
    strategy.hide_gpus()
    if _DOWNLOAD.value:
        from input_pipelines.sources import catalogue

        catalogue.prepare(config.dataset, trust)
    if _SCAN.value:
        from trainer.describe.scan import report, scanning

        scan = scanning.scan(config, console, trust)
        report.show(scan, console)
        command_line.refuse_lost_output(console.file)
        return not scan.wrong
    title = None if output is None else pathlib.Path(path).name
    described = description.describe(config, console, picture_title=title, trust=trust)
    if output is not None:
        _write(output, described.picture)
    description.show(described, console)
    if output is not None:
        console.print(f"Picture: {_OUTPUT.value}", markup=False, soft_wrap=True)
    command_line.refuse_lost_output(console.file)
    return True


def _checked_output(path: str, base: pathlib.Path) -> pathlib.Path:
    output = base / path
    if output.suffix.lower() != ".png":
        raise ConfigError("--output", path, "must be the name of a PNG file, for example data.png")
    try:
        if output.exists():
            raise ConfigError("--output", path, "exists already; remove it or give another name")
        if not output.parent.is_dir():
            raise ConfigError("--output", path, f"there is no folder {pathlib.Path(path).parent}")
    except OSError as error:  # a name that no file can have, a folder that may not be read
        raise ConfigError("--output", path, f"cannot be used: {system_reason(error)}") from error
    return output


def _write(output: pathlib.Path, picture: bytes) -> None:
    try:
        with output.open("xb") as file:
            file.write(picture)
    except FileExistsError as error:
        raise ConfigError("--output", str(output), "exists already; remove it or give another name") from error
    except OSError as error:
        raise ConfigError("--output", str(output), f"cannot be written: {system_reason(error)}") from error


if __name__ == "__main__":
    command_line.run(main, parse_flags)
