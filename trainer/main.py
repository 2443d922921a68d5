"""Trains or evaluates an experiment: python -m trainer.main --strategy=mirrored --combine=weighted."""

import contextlib
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence

from absl import app, flags, logging

from trainer import configuration, workdir
from trainer.combine.registry import METHODS
from trainer.errors import ConfigError, RunError, StoppedError, with_notes

_DEFAULT_CONFIG = pathlib.Path(__file__).resolve().parent.parent / "configs" / "digits.py"
_STRATEGIES = ("mirrored", "one_device")
_PREFIX = "--config."

_CONFIG = flags.DEFINE_string(
    "config",
    None,
    "Python file with get_config(); default configs/digits.py. Any key of it can be given as --config.<key>=<value>.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run; default a new dated folder under runs/. A run that is there goes on."
)
_STRATEGY = flags.DEFINE_enum(
    "strategy", "mirrored", _STRATEGIES, "mirrored: all GPUs, else the CPU. one_device: the first of them."
)
_COMBINE = flags.DEFINE_string(
    "combine", None, "How the losses' gradients are combined (replaces combine.name); the names are below."
)
_REDUCTION = flags.DEFINE_enum(
    "reduction",
    None,
    configuration.REDUCTIONS,
    "per_loss: a backward pass for every loss. fused: one for their weighted sum (replaces reduction).",
)
_VIRTUAL_DEVICES = flags.DEFINE_integer(
    "virtual_devices",
    None,
    "Split this machine's CPU into so many logical devices, to try mirrored without GPUs.",
    lower_bound=1,
)
_PROFILE = flags.DEFINE_string("profile", None, "Steps to profile for TensorBoard, for example 100:105.")
_MODE = flags.DEFINE_enum("mode", "train", ("train", "eval"), "eval: evaluate the checkpoint of the run in --workdir.")

_HELP = """Trains Keras models with several heads and losses.

  python -m trainer.main --strategy=mirrored --combine=weighted
  python -m trainer.main --config=configs/digits.py --config.batch_size=128 --config.losses.ink.weight=0.5
  python -m trainer.main --mode=eval --workdir=runs/<run>

Flags:
"""

_overrides: list[tuple[str, str]] = []


def main(argv: Sequence[str]) -> None:
    """Runs what the flags ask for; exits 2 with one line where they cannot be used, 1 where training fails."""
    if len(argv) > 1:
        _fail(ConfigError("arguments", " ".join(argv[1:]), "are not known; every option starts with --"), 2)
    try:
        if _MODE.value == "eval":
            _evaluate()
        else:
            _train()
    except ConfigError as error:
        _fail(error, 2)
    except StoppedError as error:
        sys.exit(error.code)
    except RunError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        _fail(KeyboardInterrupt("interrupted"), 130)


def parse_flags(argv: Sequence[str]) -> list[str]:
    """absl's parser with overrides taken aside and errors for people: one line and exit code 2; 0 for --help."""
    rest = _take_overrides(list(argv))
    if any(argument in ("--help", "-help", "-h") for argument in rest):
        listed = flags.FLAGS.main_module_help().strip().partition("\n")[2]  # its first line is this file's path
        methods = "\n".join(f"  {name:<12} {method.summary}" for name, method in METHODS.items())
        print(f"{_HELP}{listed}\n\nCombinations:\n{methods}")
        sys.exit(0)
    try:
        return flags.FLAGS(rest)
    except flags.Error as error:
        _fail(error, 2)


def _train() -> None:
    path = str(_DEFAULT_CONFIG) if _CONFIG.value is None else _CONFIG.value
    with _quiet():  # a configuration may import TensorFlow
        config = configuration.load(path, _overrides, _COMBINE.value, _REDUCTION.value)
    workdir.check(_WORKDIR.value, config)
    profile = _profiled_steps()
    with _quiet():
        from trainer import loop, strategy  # what comes before must not wait for TensorFlow
    loop.train(config, _WORKDIR.value, strategy.build(_STRATEGY.value, _VIRTUAL_DEVICES.value), profile=profile)


def _profiled_steps() -> tuple[int, int] | None:
    if _PROFILE.value is None:
        return None
    match = re.fullmatch(r"(\d{1,15}):(\d{1,15})", _PROFILE.value)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError("--profile", _PROFILE.value, "must be a first and a last step, for example 100:105")
    return int(match[1]), int(match[2])


def _evaluate() -> None:
    for flag in (_CONFIG, _COMBINE, _REDUCTION, _PROFILE):
        if flag.value is not None:
            raise ConfigError(
                f"--{flag.name}", flag.value, "has no place in --mode=eval, which uses the run's own configuration"
            )
    run = workdir.open_run(_WORKDIR.value)
    config = configuration.load_saved(run.config, _overrides)
    with _quiet():
        from trainer import loop, strategy
    loop.evaluate(config, run, strategy.build(_STRATEGY.value, _VIRTUAL_DEVICES.value))


def _take_overrides(argv: list[str]) -> list[str]:
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
            _fail(
                ConfigError(
                    argument,
                    ConfigError.ABSENT,
                    "must be written --config.<key>=<value>, for example --config.batch_size=128",
                ),
                2,
            )
        _overrides.append((key, value))
    return rest


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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


def _fail(error: BaseException, code: int) -> None:
    logging.debug("The error in full:", exc_info=error)  # --verbosity=1
    print(f"error: {with_notes(error)}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
