"""Exports a trained run: python -m trainer.export --workdir=runs/<run> --format=saved_model --output=served/1."""

from trainer.common import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # what is imported below takes a while

import pathlib
import shlex
import sys
from collections.abc import Sequence

from absl import flags

from trainer import command_line
from trainer.common import schema
from trainer.common import trust as trust_lib
from trainer.common.errors import ConfigError, NotPreparedError, UntrustedError
from trainer.config import loading
from trainer.export import formats
from trainer.output import workdir

_MODULE = "trainer.export"
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_FORMAT = flags.DEFINE_enum("format", None, tuple(formats.FORMATS), "What to write; see above.")
_OUTPUT = flags.DEFINE_string("output", None, "File or folder to write; one that is there is kept.")
_CHECKPOINT = command_line.checkpoint_flag()
_AVERAGED = flags.DEFINE_bool(
    "averaged", True, "Take moving averages of the variables, where the run keeps them (ema)."
)
_SOURCE = flags.DEFINE_string("source", None, "Of a run with several dataset.sources: whose data are to be answered.")
_TOLERANCE = flags.DEFINE_float(
    "tolerance",
    None,
    "By how much outputs may differ from the trainer's, relative to the largest of each. Default: 1e-6, and 2e-2 in "
    "half precision.",
    lower_bound=0,
)
_CONFIG = flags.DEFINE_string("config", None, "The configuration that the run was trained with, if it names own code.")
_TRUST = command_line.trust_flag()

_HELP = """Exports a trained run, for programs that have nothing of this project.

  python -m trainer.export --workdir=runs/<run> --format=saved_model --output=served/1
  python -m trainer.export --workdir=runs/<run> --format=keras --output=model.keras --checkpoint=best

  keras         the model as a .keras file, which takes prepared numbers
  saved_model   a folder for TensorFlow and TensorFlow Serving, which takes raw data (text, categories, numbers,
                pictures as bytes) and gives classes, probabilities, and values in their own units
  tflite, onnx  a file that takes prepared numbers and gives the same

What is written is loaded and run by its own runtime in a process of its own, and compared with the trainer; only then
is it there. A page beside it says what it takes, what it gives, and how it is called. No GPU is used.

Flags:
"""

_overrides: list[tuple[str, str]] = []


def main(argv: Sequence[str]) -> None:
    """Exports what the flags ask for; exits 2 with one line where they cannot be used, 1 where the export fails."""
    command_line.refuse_arguments(argv)
    with command_line.errors_in_one_line():
        try:
            _export()
        except NotPreparedError as error:
            raise command_line.with_download(error, _MODULE) from error
        except UntrustedError as error:
            raise command_line.with_trust(error, _MODULE) from error


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Takes in flags and overrides; exits 2 with one line where it cannot, 0 after --help."""
    return command_line.parse(argv, _overrides, description=_HELP, takes_config=False)


def _export() -> None:
    base, output = workdir.current(), sys.stdout  # before a user's code runs, which may change either
    for flag, of_what in ((_FORMAT, f"one of {', '.join(formats.FORMATS)}"), (_OUTPUT, "the file or folder to write")):
        if flag.value is None:
            raise ConfigError(f"--{flag.name}", ConfigError.ABSENT, f"is missing: {of_what}")
    formats.check(_FORMAT.value)
    path = base / _OUTPUT.value
    formats.check_output(path, _FORMAT.value)
    trust, run = trust_lib.in_packages(_TRUST.value), workdir.open_run(_WORKDIR.value)
    with command_line.quiet():
        trust = loading.naming(trust, _CONFIG.value, _overrides)
    config = loading.load_trusted(run.config, _overrides, trust)
    with command_line.quiet():
        command_line.import_keras()
        from rich.console import Console

        from trainer.distributed import strategy  # what comes before must not wait for TensorFlow
        from trainer.export import of_run

        trust.check_definitions(schema.as_dict(config), str(run.path))
    strategy.hide_gpus()
    wanted = of_run.Wanted(
        format=_FORMAT.value,
        output=path,
        shown=_OUTPUT.value,
        command=shlex.join(["python", "-m", _MODULE, *sys.argv[1:]]),
        best=_CHECKPOINT.value == "best",
        averaged=_AVERAGED.value,
        source=_SOURCE.value,
        tolerance=_TOLERANCE.value,
    )
    exported = of_run.export(config, run, strategy.build("one_device"), trust, wanted)
    console = Console(highlight=False, file=output)
    tried = f"run on {exported.examples} examples {exported.origin}, differs by {exported.difference:.1e}"
    console.print(f"Export: {_OUTPUT.value} ({_FORMAT.value}; {tried})", markup=False, soft_wrap=True)
    page = formats.page_of(pathlib.Path(_OUTPUT.value), formats.FORMATS[_FORMAT.value].ending)
    console.print(f"How it is called: {page}", markup=False, soft_wrap=True)
    command_line.refuse_lost_output(output)


if __name__ == "__main__":
    command_line.run(main, parse_flags)
