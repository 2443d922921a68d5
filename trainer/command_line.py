"""Shared by the entry points: overrides of the configuration, help, errors in one line. Needs no TensorFlow."""

import contextlib
import difflib
import importlib
import os
import pathlib
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NoReturn, TextIO

from absl import app, flags, logging

from trainer.combine import listing
from trainer.common import interrupts, streams, trust
from trainer.common.errors import ConfigError, NotPreparedError, RunError, UntrustedError, system_reason, with_notes
from trainer.config import reference, settings

DEFAULT_CONFIG = str(pathlib.Path(__file__).resolve().parent.parent / "configs" / "digits.py")
_PREFIX = "--config."
_OPTIONAL = ("sklearn", "matplotlib")  # packages that Keras imports although few use what needs them
_HELP = ("--help", "-help", "-h")
# What `--help=<topic>` prints.
_TOPICS = {"config": reference.for_terminal, "methods": listing.text}
_TOPICS_IN_HELP = """
--help=config prints every key of a configuration with its default and its meaning,
--help=methods the combination methods with their options."""
_NEAR = 0.75  # how alike two names of flags must be, 1 being the same
_STRATEGIES = ("mirrored", "one_device", "multi_worker")
_UNREAD = 141  # the exit code of a program that SIGPIPE ends

flags.disclaim_key_flags()  # --help lists a flag that is defined here as the entry point's own


def config_flags(
    combine_help: str = "How gradients are combined (combine.name); see --help=methods.",
) -> tuple[flags.FlagHolder[str | None], flags.FlagHolder[str | None], flags.FlagHolder[str | None]]:
    """Defines --config, --combine (of which --help says `combine_help`) and --reduction, and returns them."""
    config = flags.DEFINE_string(
        "config",
        None,
        "Python file with get_config(); default configs/digits.py. Any key of it can be given as "
        "--config.<key>=<value>.",
    )
    combine = flags.DEFINE_string("combine", None, combine_help)
    reduction = flags.DEFINE_enum(
        "reduction",
        None,
        settings.REDUCTIONS,
        "per_loss: a backward pass per loss. fused: one. features: per loss to the trunk. auto: fused if possible.",
    )
    return config, combine, reduction


def device_flags() -> tuple[flags.FlagHolder[str], flags.FlagHolder[int | None], flags.FlagHolder[bool]]:
    """Defines --strategy, --virtual_devices and --allow_cpu, and returns them."""
    strategy = flags.DEFINE_enum(
        "strategy",
        "mirrored",
        _STRATEGIES,
        "mirrored: all GPUs, else the CPU. one_device: the first. multi_worker: those of several processes.",
    )
    virtual_devices = flags.DEFINE_integer(
        "virtual_devices", None, "Try mirrored on the CPU, as this number of devices.", lower_bound=1
    )
    allow_cpu = flags.DEFINE_bool("allow_cpu", False, "Take the CPU where the machine's GPUs cannot be used.")
    return strategy, virtual_devices, allow_cpu


def checkpoint_flag() -> flags.FlagHolder[str]:
    """Defines --checkpoint, last or best, and returns it."""
    return flags.DEFINE_enum("checkpoint", "last", ("last", "best"), "best: by what the run's 'best' names.")


def trust_flag() -> flags.FlagHolder[list[str] | None]:
    """Defines --trust and returns it; `trust.in_packages` takes its value."""
    return flags.DEFINE_list(
        "trust",
        None,
        "Packages whose code a run (--mode=eval) or a folder of TFDS may name, beside the project's own and what "
        "--config names.",
    )


def run(main: Callable[[Sequence[str]], object], parse_flags: Callable[[Sequence[str]], list[str]]) -> None:
    """Runs an entry point as absl does, with output that takes any text and lasts whatever a user's code closes."""
    with streams.kept():
        app.run(main, flags_parser=parse_flags)


def parse(
    argv: Sequence[str], overrides: list[tuple[str, str]], *, description: str, takes_config: bool = True
) -> list[str]:
    """absl's parser with overrides taken aside and errors for people: one line and exit code 2; 0 for --help.

    Args:
      argv: the program's arguments.
      overrides: gets (dotted key, text) for each `--config.<key>=<value>` and `--config.<key> <value>`.
      description: what --help says before the flags.
      takes_config: whether the program has a configuration, so that --help=config and --help=methods explain it, and
        the error for a flag that does not exist names its keys.

    Returns:
      What is no flag, the program's name first.
    """
    topics = _TOPICS if takes_config else {}
    rest = _take_overrides(argv, overrides)
    if any(argument in _HELP for argument in rest):
        listed = flags.FLAGS.main_module_help().strip().partition("\n")[2]  # its first line is the file's path
        show(f"{description}{listed}" + (f"\n{_TOPICS_IN_HELP}" if topics else ""))
    for argument in rest[1:]:
        help_, given, topic = argument.partition("=")
        if given and help_ in _HELP:
            _print_topic(topic, topics)
    try:
        return flags.FLAGS(rest)
    except flags.UnrecognizedFlagError as error:
        fail(_unknown_flag(error, takes_config=takes_config), 2)
    except flags.Error as error:
        fail(error, 2)


def _print_topic(topic: str, topics: Mapping[str, Callable[[], str]]) -> NoReturn:
    """Prints what `--help=<topic>` asks for and exits with code 0; with 2 and one line where there is no such topic."""
    if topic not in topics:
        allowed = f"must be one of {', '.join(topics)}, or --help alone" if topics else "is not known; use --help alone"
        fail(ConfigError("--help", topic, allowed), 2)
    show(topics[topic]())


def show(text: str) -> NoReturn:
    """Prints a text and exits with code 0, or as `refuse_lost_output` does."""
    print(text)
    refuse_lost_output(sys.stdout)
    sys.exit(0)


def refuse_lost_output(output: TextIO) -> None:
    """Ends a program that does nothing but print where its output was lost; everything must have been printed.

    Where nobody reads it (`| head -1`) the exit code is 141 and nothing is said, as of a program that SIGPIPE ends. On
    a full disk the code is 1, with one line.
    """
    output.flush()
    if not isinstance(output, streams.Output) or output.failure is None:
        return
    if output.is_unread:
        sys.exit(_UNREAD)
    fail(RunError(f"cannot write the output: {system_reason(output.failure)}"), 1)


def _unknown_flag(error: flags.UnrecognizedFlagError, *, takes_config: bool) -> ConfigError:
    """The error for a flag that does not exist, with the key of a configuration or the flag that it probably means."""
    name, (_, given, value) = error.flagname, error.flagvalue.partition("=")
    near = difflib.get_close_matches(name, list(flags.FLAGS), n=1, cutoff=_NEAR)
    key = reference.meant(name, value if given else None, exactly=bool(near)) if takes_config else None
    if key is not None:
        hint = f"the key for it is {key}"
    elif near:
        hint = f"did you mean --{near[0]}?"
    else:
        hint = "--help lists the flags" + (", --help=config the keys of a configuration" if takes_config else "")
    return ConfigError(f"--{name}", ConfigError.ABSENT, f"is no flag; {hint}")


def refuse_arguments(argv: Sequence[str]) -> None:
    """Exits with code 2 where `argv` holds anything beside the program's name."""
    if len(argv) > 1:
        fail(ConfigError("arguments", " ".join(argv[1:]), "are not known; every option starts with --"), 2)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps TensorFlow's start-up messages off the terminal; shows them where something fails unexpectedly.

    An interrupt within it ends the process, in one line: there is nothing to save while programs import.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    original = os.dup(2)
    stream = sys.stderr  # on a descriptor of its own in a program; a user's code may replace it
    descriptors = {2, stream.fileno()} if isinstance(stream, streams.Output) else {2}
    with tempfile.TemporaryFile() as messages, interrupts.ending_at_once(original):
        for descriptor in descriptors:
            os.dup2(messages.fileno(), descriptor)
        try:
            yield
        except ConfigError:
            raise
        except BaseException:
            messages.seek(0)
            os.write(original, messages.read())
            raise
        finally:
            stream.flush()
            for descriptor in descriptors:
                os.dup2(original, descriptor)
            os.close(original)
            streams.occupy()
    if not flags.FLAGS["verbosity"].present:
        # The run has its own reports; --verbosity=0 shows the libraries' messages, too.
        logging.set_verbosity(logging.WARNING)


def import_keras() -> None:
    """Imports TensorFlow and Keras, without packages that Keras imports only in case somebody uses them.

    Where they are installed it imports scikit-learn for `keras.wrappers` and Matplotlib's pyplot for
    `keras.visualization`, a third of the time that the imports take; in this process these two parts of Keras say that
    the package is missing. Code that imports one of the packages itself gets it.
    """
    hidden = [name for name in _OPTIONAL if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # importing a module that is None raises ImportError
    try:
        importlib.import_module("keras")
    finally:
        for name in hidden:
            del sys.modules[name]


def with_download(error: NotPreparedError, module: str) -> ConfigError:
    """The error with the command that prepares the data: the one that was given, with --download."""
    command = shlex.join(["python", "-m", module, *sys.argv[1:], "--download"])
    return ConfigError(error.field, error.value, f"{error.allowed}; this prepares it: {command}")


def with_trust(error: UntrustedError, module: str) -> ConfigError:
    """The error with the command that trusts the code: the one that was given, with --trust."""
    command = shlex.join(["python", "-m", module, *sys.argv[1:], f"{trust.FLAG}={','.join(error.packages)}"])
    return ConfigError(error.field, error.value, f"{error.allowed}; if you know that code and trust it: {command}")


def fail(error: BaseException, code: int, output: TextIO | None = None) -> NoReturn:
    """Prints an error in one line, to standard error unless told otherwise, and exits."""
    logging.debug("The error in full:", exc_info=error)  # --verbosity=1
    print(f"error: {with_notes(error)}", file=output or sys.stderr, flush=True)
    sys.exit(code)


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """An error for people ends the process: a ConfigError with code 2, a RunError with 1, an interrupt with 130."""
    output = sys.stderr  # a user's code may replace it
    try:
        with interrupts.raised():
            yield
    except ConfigError as error:
        fail(error, 2, output)
    except RunError as error:
        fail(error, 1, output)
    except KeyboardInterrupt:
        fail(KeyboardInterrupt("interrupted"), interrupts.EXIT_CODE, output)


@contextlib.contextmanager
def leaving_at_once(wanted: bool) -> Iterator[None]:
    """Ends the process with this context where `wanted`, with its exit code, but without what libraries do at exit."""
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
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # a user's code has put something else there
            stream.flush()
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
            reason = "must be written --config.<key>=<value>, for example --config.batch_size=128"
            fail(ConfigError(argument, ConfigError.ABSENT, reason), 2)
        overrides.append((key, value))
    return rest
