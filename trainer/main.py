"""Trains or evaluates an experiment: python -m trainer.main --strategy=mirrored --combine=weighted."""

from trainer.common import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # what is imported below takes a while

import os
import pathlib
import re
import sys
import time
from collections.abc import Sequence

from absl import flags, logging

from input_pipelines.configuration import VALIDATION
from trainer import command_line
from trainer.common import commands, schema
from trainer.common import trust as trust_lib
from trainer.common.errors import ConfigError, LostWorkerError, NotPreparedError, StoppedError, UntrustedError
from trainer.config import loading
from trainer.distributed import cluster, rendezvous, signals
from trainer.distributed.watchdog import START_SECONDS, Watchdog
from trainer.output import workdir

_AFTER_THE_CAUSE = 2  # seconds: of several workers that fail, schedulers take the first for the cause

_CONFIG, _COMBINE, _REDUCTION = command_line.config_flags()
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run, resumed if it is there; by default a new one.")
_STRATEGY, _VIRTUAL_DEVICES, _ALLOW_CPU = command_line.device_flags()
_DETERMINISTIC = flags.DEFINE_bool("deterministic", None, "Repeatable bits on GPUs, too (replaces deterministic).")
_PROFILE = flags.DEFINE_string("profile", None, "Steps to profile for TensorBoard, for example 100:105.")
_TRUST = command_line.trust_flag()
_DOWNLOAD = flags.DEFINE_bool("download", False, "Download and prepare what dataset.name needs.")
_HANG_TIMEOUT = flags.DEFINE_integer(
    "hang_timeout",
    600,
    "Seconds without progress after which multi_worker ends.",
    lower_bound=1,
)
_MODE = flags.DEFINE_enum("mode", "train", ("train", "eval"), "eval: evaluate the checkpoint of the run in --workdir.")

_SPLIT = flags.DEFINE_string("split", None, "Of eval: the split to evaluate (default: validation).")
_DATA = flags.DEFINE_string("data", None, "Of eval: a file or folder with targets, instead of a split.")
_SOURCE = flags.DEFINE_string("source", None, "Of eval: which of several sources --data is of.")
_CHECKPOINT = command_line.checkpoint_flag()

_HELP = """Trains Keras models with several heads and losses.

  python -m trainer.main --strategy=mirrored --combine=weighted
  python -m trainer.main --config=configs/digits.py --config.batch_size=128 --config.losses.ink.weight=0.5

Flags:
"""

_overrides: list[tuple[str, str]] = []


def main(argv: Sequence[str]) -> None:
    """Runs what the flags ask for; exits 2 with one line where they cannot be used, 1 where training fails."""
    command_line.refuse_arguments(argv)
    # TensorFlow's own end waits for the other workers, which may be gone.
    with command_line.leaving_at_once(_STRATEGY.value == "multi_worker"), command_line.errors_in_one_line():
        _run()


def _run() -> None:
    try:
        if _MODE.value == "eval":
            _evaluate()
        else:
            _train()
    except NotPreparedError as error:
        raise command_line.with_download(error, "trainer.main") from error
    except UntrustedError as error:
        raise command_line.with_trust(error, "trainer.main") from error
    except StoppedError as error:
        sys.exit(error.code)
    except LostWorkerError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        time.sleep(_AFTER_THE_CAUSE)
        sys.exit(1)


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Takes in flags and overrides; exits 2 with one line where it cannot, 0 after --help."""
    return command_line.parse(argv, _overrides, description=_HELP)


def _train() -> None:
    for flag in (_SPLIT, _DATA, _SOURCE):
        if flag.value is not None:
            reason = "is for --mode=eval; training evaluates what 'evaluate' says"
            raise ConfigError(f"--{flag.name}", flag.value, reason)
    if _CHECKPOINT.value == "best":
        raise ConfigError("--checkpoint", _CHECKPOINT.value, "is for --mode=eval; a run resumes from its last one")
    base, output = workdir.current(), sys.stdout  # before a user's code runs, which may change either
    workers, trust = None, trust_lib.in_packages(_TRUST.value)
    if _STRATEGY.value == "multi_worker":
        signals.hold()
        workers = cluster.from_environment(os.environ)
        if _VIRTUAL_DEVICES.value is not None:
            raise ConfigError("--virtual_devices", _VIRTUAL_DEVICES.value, "needs --strategy=mirrored")
    path = command_line.DEFAULT_CONFIG if _CONFIG.value is None else _CONFIG.value
    with command_line.quiet():  # a configuration may import TensorFlow
        shortcut = [] if _DETERMINISTIC.value is None else [("deterministic", str(_DETERMINISTIC.value))]
        config = loading.load(path, [*_overrides, *shortcut], _COMBINE.value, _REDUCTION.value)
    if workers is None or workers.rank == 0:
        workdir.check(_WORKDIR.value, config, base)
    profile = _profiled_steps()
    with command_line.quiet():
        command_line.import_keras()
        from rich.console import Console

        from input_pipelines.sources import catalogue
        from trainer.distributed import strategy, usable_gpus  # what comes before must not wait for TensorFlow
        from trainer.run import train
    usable_gpus.check(_STRATEGY.value, virtual_devices=_VIRTUAL_DEVICES.value, allow_cpu=_ALLOW_CPU.value)
    if _DOWNLOAD.value:
        catalogue.prepare(config.dataset, trust)
    if workers:
        with signals.ending_at_once():
            rendezvous.meet(workers, max(START_SECONDS, _HANG_TIMEOUT.value), logging.warning)
    name = f"worker {workers.rank} of {len(workers.addresses)}" if workers else ""
    with Watchdog(_HANG_TIMEOUT.value if workers else None, name).watching() as watchdog:
        built = strategy.build(_STRATEGY.value, _VIRTUAL_DEVICES.value, workers)
        console = Console(highlight=False, file=output)
        origin = train.Origin(pathlib.PurePath(path).stem, commands.repeating("trainer.main", sys.argv[1:]))
        train.train(config, _WORKDIR.value, built, console, profile, watchdog, trust, base, origin=origin)


def _profiled_steps() -> tuple[int, int] | None:
    if _PROFILE.value is None:
        return None
    match = re.fullmatch(r"(\d{1,15}):(\d{1,15})", _PROFILE.value)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError("--profile", _PROFILE.value, "must be a first and a last step, for example 100:105")
    return int(match[1]), int(match[2])


def _evaluate() -> None:
    for flag in (_COMBINE, _REDUCTION, _DETERMINISTIC, _PROFILE, _DOWNLOAD):
        if flag.value:
            raise ConfigError(
                f"--{flag.name}", flag.value, "has no place in --mode=eval, which uses the run's own configuration"
            )
    if _STRATEGY.value == "multi_worker":
        raise ConfigError("--strategy", "multi_worker", "is for training; --mode=eval takes mirrored or one_device")
    if _SPLIT.value is not None and _DATA.value is not None:
        raise ConfigError("--split", _SPLIT.value, "cannot be beside --data: one of them says what to evaluate on")
    if _SOURCE.value is not None and _DATA.value is None:
        raise ConfigError("--source", _SOURCE.value, "is for --data; a split is of all sources")
    output = sys.stdout
    trust, run = trust_lib.in_packages(_TRUST.value), workdir.open_run(_WORKDIR.value)
    with command_line.quiet():
        trust = loading.naming(trust, _CONFIG.value, _overrides)
    config = loading.load_trusted(run.config, _overrides, trust)
    with command_line.quiet():
        command_line.import_keras()
        from rich.console import Console

        from trainer.distributed import strategy, usable_gpus
        from trainer.run import evaluate

        trust.check_definitions(schema.as_dict(config), str(run.path))
    usable_gpus.check(_STRATEGY.value, virtual_devices=_VIRTUAL_DEVICES.value, allow_cpu=_ALLOW_CPU.value)
    console = Console(highlight=False, file=output)
    built = strategy.build(_STRATEGY.value, _VIRTUAL_DEVICES.value)
    best = _CHECKPOINT.value == "best"
    if _DATA.value is None:
        evaluate.evaluate(config, run, built, console, trust, _SPLIT.value or VALIDATION, best=best)
    else:
        evaluate.evaluate_data(config, run, built, _DATA.value, console, trust, _SOURCE.value, best=best)
    command_line.refuse_lost_output(output)


if __name__ == "__main__":
    command_line.run(main, parse_flags)
