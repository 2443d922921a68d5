"""Runs a command by its name: `multi-head-trainer train --combine=pcgrad`, or `python -m trainer train ...`."""

from trainer.common import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # what is imported below takes a while

import contextlib
import os
import pathlib
import runpy
import sys

from trainer import __version__
from trainer.common import streams
from trainer.common.errors import unknown

# Word → the module that is run as `python -m MODULE`, and what it does.
COMMANDS = {
    "train": ("trainer.main", "Trains a model, resumes its run, or evaluates it (--mode=eval)."),
    "compare": ("trainer.compare", "Trains several methods with several seeds, and shows which way pays."),
    "predict": ("trainer.predict", "Predicts with a trained run: a split or a file of yours to a table."),
    "export": ("trainer.export", "Writes a trained run for other programs: keras, saved_model, tflite, onnx."),
    "describe": ("trainer.describe", "Shows data, model and step of a configuration, before anything is trained."),
    "cost": ("trainer.cost", "Predicts what a step costs on many devices."),
    "selfcheck": ("trainer.selfcheck", "Checks that devices, replicas and workers work here."),
    "workers": ("launch.workers", "Starts a command as several workers that train together."),
}
_NAME = "multi-head-trainer"


def main() -> None:
    """Runs the command that the first argument names with the remaining ones; exits 2 with one line for another."""
    interrupts.end_at_once()  # as a console script, too
    from trainer import command_line

    word, *arguments = sys.argv[1:] or ["--help"]
    if word in ("--help", "-h", "--version"):
        with streams.kept():
            command_line.show(f"{_NAME} {__version__}" if word == "--version" else _help(command_line.DEFAULT_CONFIG))
    elif word not in COMMANDS:
        command_line.fail(unknown("command", word, "command", COMMANDS), 2)
    else:
        _see_this_folder()
        sys.argv[1:] = arguments
        runpy.run_module(COMMANDS[word][0], run_name="__main__", alter_sys=True)


def _see_this_folder() -> None:
    """Makes modules of the current folder importable, as `python -m` does.

    A console script has its own folder in that place.
    """
    if not sys.flags.safe_path:
        with contextlib.suppress(OSError):  # the folder is gone
            sys.path[0] = os.getcwd()


def _help(default_configuration: str) -> str:
    lines = (f"  {word:<12}{description}" for word, (_, description) in COMMANDS.items())
    return "\n".join(
        [
            "Trains Keras models with several heads and losses.",
            "",
            f"  {_NAME} COMMAND [flags]",
            "",
            "Commands:",
            *lines,
            "",
            f"{_NAME} COMMAND --help lists the flags of a command, {_NAME} --version prints the version.",
            f"Configurations to start from: {pathlib.Path(default_configuration).parent}",
        ]
    )


if __name__ == "__main__":
    main()
