"""What the entry points share: overrides of the configuration, help, errors in one line. Needs no TensorFlow."""

import contextlib
import os
import pathlib
import shlex
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Iterator, Sequence
from typing import NoReturn

from absl import flags, logging

from trainer.combine.registry import METHODS
from trainer.common.errors import ConfigError, NotPreparedError, RunError, with_notes

DEFAULT_CONFIG = str(pathlib.Path(__file__).resolve().parent.parent / "configs" / "digits.py")
_PREFIX = "--config."
_HELP = ("--help", "-help", "-h")
_STRATEGIES = ("mirrored", "one_device", "multi_worker")

flags.disclaim_key_flags()  # --help lists a flag that is defined here as the entry point's own


def device_flags() -> tuple[flags.FlagHolder[str], flags.FlagHolder[int | None]]:
    """Defines --strategy and --virtual_devices, and returns them."""
    strategy = flags.DEFINE_enum(
        "strategy",
        "mirrored",
        _STRATEGIES,
        "mirrored: all GPUs, else the CPU. one_device: the first. multi_worker: those of several processes.",
    )
    virtual_devices = flags.DEFINE_integer(
        "virtual_devices", None, "Try mirrored on this CPU, split into so many devices.", lower_bound=1
    )
    return strategy, virtual_devices


def parse(
    argv: Sequence[str], overrides: list[tuple[str, str]], *, description: str, combinations: bool = True
) -> list[str]:
    """absl's parser with overrides taken aside and errors for people: one line and exit code 2; 0 for --help.

    Args:
      argv: the program's arguments.
      overrides: gets (dotted key, text) for each `--config.<key>=<value>` and `--config.<key> <value>`.
      description: what --help says before the flags.
      combinations: whether it lists the combination methods after them.

    Returns:
      What is no flag, the program's name first.
    """
    rest = _take_overrides(argv, overrides)
    if any(argument in _HELP for argument in rest):
        listed = flags.FLAGS.main_module_help().strip().partition("\n")[2]  # its first line is the file's path
        print(f"{description}{listed}" + (f"\n\n{_methods()}" if combinations else ""))
        sys.exit(0)
    try:
        return flags.FLAGS(rest)
    except flags.Error as error:
        fail(error, 2)


def _methods() -> str:
    """The methods' names under a heading, a paragraph for everything that methods look at."""
    names: dict[str, list[str]] = {}
    for name, method in METHODS.items():
        names.setdefault(method.looks_at.value, []).append(name)
    paragraphs = (f"{looks_at}: {', '.join(own)}" for looks_at, own in names.items())
    filled = (textwrap.fill(text, 80, initial_indent="  ", subsequent_indent="    ") for text in paragraphs)
    return "\n".join(["Combinations, by what they look at:", *filled])


def refuse_arguments(argv: Sequence[str]) -> None:
    """Exits with code 2 where `argv` holds anything beside the program's name."""
    if len(argv) > 1:
        fail(ConfigError("arguments", " ".join(argv[1:]), "are not known; every option starts with --"), 2)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps TensorFlow's start-up messages off the terminal; shows them where something fails unexpectedly."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), 2)
        try:
            yield
        except ConfigError:
            raise
        except BaseException:
            messages.seek(0)
            os.write(original, messages.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(
            logging.WARNING
        )  # the run has its own reports; --verbosity=0 shows the libraries' messages too


def with_download(error: NotPreparedError, module: str) -> ConfigError:
    """The error with the command that prepares the data: the one that was given, with --download."""
    command = shlex.join(["python", "-m", module, *sys.argv[1:], "--download"])
    return ConfigError(error.field, error.value, f"{error.allowed}; this prepares it: {command}")


def fail(error: BaseException, code: int) -> NoReturn:
    """Prints an error in one line and exits."""
    logging.debug("The error in full:", exc_info=error)  # --verbosity=1
    print(f"error: {with_notes(error)}", file=sys.stderr)
    sys.exit(code)


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """An error for people ends the process: a ConfigError with code 2, a RunError with 1, an interrupt with 130."""
    try:
        yield
    except ConfigError as error:
        fail(error, 2)
    except RunError as error:
        fail(error, 1)
    except KeyboardInterrupt:
        fail(KeyboardInterrupt("interrupted"), 130)


@contextlib.contextmanager
def leaving_at_once(wanted: bool) -> Iterator[None]:
    """Where wanted, the process ends with this context, as it would have, but without what libraries do at its end."""
    try:
        yield
    except SystemExit as error:
        if wanted:
            leave(error.code)
        raise
    except BaseException:
        if wanted:
            traceback.print_exc()
            leave(1)
        raise
    if wanted:
        leave(0)


def leave(code: int) -> NoReturn:
    """Ends the process at once, without what libraries do at its end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _take_overrides(argv: Sequence[str], overrides: list[tuple[str, str]]) -> list[str]:
    """Moves `--config.<key>=<value>` and `--config.<key> <value>` from `argv` to the overrides; returns the rest."""
    rest = []
    arguments = iter(argv)
    for argument in arguments:
        if not argument.startswith(_PREFIX):
            rest.append(argument)
            continue
        key, given, value = argument.removeprefix(_PREFIX).partition("=")
        if not given:
            value = next(arguments, "")
        if not key or value.startswith("--") or (not given and not value):
            fail(
                ConfigError(
                    argument,
                    ConfigError.ABSENT,
                    "must be written --config.<key>=<value>, for example --config.batch_size=128",
                ),
                2,
            )
        overrides.append((key, value))
    return rest
