"""Shows what a configuration makes of its data: python -m trainer.describe --config=configs/digits.py."""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from absl import app, flags
from rich.console import Console

from input_pipelines.configuration import TRAIN
from trainer import command_line
from trainer.common.errors import ConfigError, NotPreparedError, reason_of, system_reason
from trainer.config import loading
from trainer.config.settings import Config

if TYPE_CHECKING:  # it needs TensorFlow
    from input_pipelines.feed.splits import Split

_CONFIG = flags.DEFINE_string(
    "config",
    None,
    "Python file with get_config(); default configs/digits.py. Any key of it can be given as --config.<key>=<value>.",
)
_DOWNLOAD = flags.DEFINE_bool("download", False, "Download and prepare what dataset.name needs of the TFDS catalogue.")
_OUTPUT = flags.DEFINE_string("output", "data.png", "PNG file to write the picture to; one that is there is kept.")

_HELP = """Shows what a configuration makes of its data; nothing is trained.

  python -m trainer.describe --config=configs/digits.py
  python -m trainer.describe --config=my_experiment.py --config.dataset.feed=streaming --output=streamed.png

It prints splits, inputs and targets with their ranges, the balance of classes, the share of missing labels, what was
learned from the training split, what was left out, and how fast training examples are made; and it draws a few of them
as the model gets them, after augmentation.

Flags:
"""

_overrides: list[tuple[str, str]] = []


def main(argv: Sequence[str]) -> None:
    """Shows what the flags ask for; exits 2 with one line where they or the data cannot be used."""
    command_line.refuse_arguments(argv)
    with command_line.errors_in_one_line():
        try:
            _show(Console(highlight=False))
        except NotPreparedError as error:
            raise command_line.with_download(error, "trainer.describe") from error


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Takes in flags and overrides; exits 2 with one line where it cannot, 0 after --help."""
    return command_line.parse(argv, _overrides, description=_HELP, combinations=False)


def _show(console: Console) -> None:
    path = command_line.DEFAULT_CONFIG if _CONFIG.value is None else _CONFIG.value
    with command_line.quiet():  # a configuration may import TensorFlow
        config = loading.load(path, _overrides)
    output = _checked_output(_OUTPUT.value)
    with command_line.quiet():
        from input_pipelines.sources import catalogue  # what comes before must not wait for TensorFlow
    if _DOWNLOAD.value:
        catalogue.prepare(config.dataset)
    _print_and_draw(console, config, pathlib.Path(path).name, output)


def _print_and_draw(console: Console, config: Config, title: str, output: pathlib.Path) -> None:
    with command_line.quiet():
        import keras
        import tensorflow as tf

        from input_pipelines import data as data_lib
        from trainer.describe import data_numbers, data_tables, rate
        from trainer.describe import picture as picture_lib

    tf.config.set_visible_devices([], "GPU")  # they may be at work
    keras.config.set_floatx("float32" if config.precision.startswith("mixed_") else config.precision)
    batch_size = config.batch_size // config.micro_batches
    with console.status("Reading the data ..."):
        data = data_lib.build(config.dataset)
    train = data.splits[TRAIN]
    summaries = {}
    for name, split in data.splits.items():
        with _explained(split, config), console.status("Counting ..."):
            summaries[name] = data_numbers.summarise(split, batch_size, config.seed)
    with _explained(train, config), console.status("Making training examples ..."):
        measured = rate.measure(train, batch_size, config.seed)
        drawn = picture_lib.draw(train, data.names, batch_size, config.seed, title)
    shown = [
        data_tables.splits(config.dataset, data),
        data_tables.inputs(train, summaries[TRAIN]),
        data_tables.targets(summaries),
        *data_tables.balances(summaries, data.names),
        data_tables.statistics(data),
    ]
    for table in shown:
        if table is not None:
            console.print(table)
    lines = [
        f"Numbers are of {' and '.join(data_tables.counted(each, name) for name, each in summaries.items())}, "
        "before augmentation.",
        *(data.notes or ["Nothing was left out."]),
        f"Training examples are made at {measured.examples_per_second:,.0f} a second in batches of "
        f"{measured.batch_size}; the first batch takes {measured.first_batch:.2f} s.",
    ]
    _write(output, drawn)
    for line in (*lines, f"Picture: {output}"):
        console.print(line, markup=False, soft_wrap=True)


@contextlib.contextmanager
def _explained(split: "Split", config: Config) -> Iterator[None]:
    """Turns an error from within a pipeline into a ConfigError that says which example cannot be used."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        reason = split.reason(0, config.batch_size // config.micro_batches, config.seed)
        raise ConfigError("dataset", ConfigError.ABSENT, reason or reason_of(error)) from error


def _checked_output(path: str) -> pathlib.Path:
    output = pathlib.Path(path)
    if output.suffix.lower() != ".png":
        raise ConfigError("--output", path, "must be the name of a PNG file, for example data.png")
    if output.exists():
        raise ConfigError("--output", path, "exists already; remove it or give another name")
    if not output.parent.is_dir():
        raise ConfigError("--output", path, f"there is no folder {output.parent}")
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
    app.run(main, flags_parser=parse_flags)
