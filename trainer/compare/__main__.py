"""Compares methods on the same data: python -m trainer.compare --combine=weighted,pcgrad,mgda --seeds=3."""

from trainer.common import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # what is imported below takes a while

import shlex
import sys
from collections.abc import Sequence

from absl import flags
from rich.console import Console

from trainer import command_line
from trainer.common import trust as trust_lib
from trainer.common.errors import ConfigError, NotPreparedError, RunError
from trainer.compare import asking, comparing, grid
from trainer.compare.asking import Asked
from trainer.compare.messages import Request
from trainer.compare.plan_file import Tuned
from trainer.config import loading
from trainer.distributed import signals
from trainer.output import workdir

_CONFIG, _COMBINE, _REDUCTION = command_line.config_flags(
    "The methods to compare, parted by commas; see --help=methods."
)
_SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each method: the configuration's seed, and those after it.", 1)
_SINGLE_TASK = flags.DEFINE_bool("single_task", False, "Also train each loss alone.")
_VARY = flags.DEFINE_multi_string("vary", [], "config.<key>=<value>,<value>: train every method with each value.")
_TUNED = flags.DEFINE_integer("tuned", 0, "Trials by which each method is tuned first; needs the extra 'tune'.", 0)
_OBJECTIVE = flags.DEFINE_string(
    "objective", None, "Of --tuned: a metric, or an expression to be least (default: best.metric, or all losses)."
)
_CELL = flags.DEFINE_integer(
    "cell", None, "Train the cell of this number alone, as a task of an array; the same command without it reports.", 1
)
_LIST = flags.DEFINE_bool("list", False, "Print the cells with their numbers, and train nothing.")
_WORKDIRS = flags.DEFINE_list(
    "workdirs", None, "Train nothing: compare these runs, folders of runs or of comparisons, or patterns of them."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the comparison, continued if it is there; by default new.")
_STRATEGY, _VIRTUAL_DEVICES, _ALLOW_CPU = command_line.device_flags()
_TRUST = command_line.trust_flag()
_TIMED_STEPS = flags.DEFINE_integer(
    "timed_steps", 100, "The most steps of a round by which each method is timed alone in the end; 0: none is.", 0
)
_DOWNLOAD = flags.DEFINE_bool("download", False, "Download and prepare what dataset.name needs.")

_OF_TRAINING = (
    *(_CONFIG, _COMBINE, _REDUCTION, _SEEDS, _SINGLE_TASK, _VARY, _TUNED, _OBJECTIVE),
    *(_TIMED_STEPS, _DOWNLOAD, _CELL, _LIST),
)
_HELP = """Compares methods: every one is trained with the same budget, split and start, and with several seeds.

  python -m trainer.compare --config=configs/digits.py --combine=weighted,pcgrad,mgda --seeds=3 --workdir=runs/compared
  python -m trainer.compare --combine=pcgrad --vary=config.batch_size=32,64 --single_task --workdir=runs/batch_sizes
  python -m trainer.compare --workdirs=runs/first,runs/second --workdir=runs/both

Given again, a command continues where it stopped; with more methods, seeds or values it adds their runs. Every run is
an ordinary one, in <workdir>/<method>/seed_<n>.

Flags:
"""

_overrides: list[tuple[str, str]] = []


def main(argv: Sequence[str]) -> None:
    """Compares what the flags ask for; exits 2 with one line where they cannot be used, 1 where a run failed."""
    command_line.refuse_arguments(argv)
    console = Console(highlight=False, file=sys.stdout)
    with command_line.errors_in_one_line():
        if _WORKDIRS.value is not None:
            _report(console)
            return
        try:
            asked = _asked()
            if _LIST.value:
                names = asking.listed(asked)
                command_line.show("\n".join(f"{number:>3}  {name}" for number, name in enumerate(names, start=1)))
            if _CELL.value is None:
                outcome = comparing.compare(asked, workdir.current(), console)
            else:
                outcome = comparing.train_cell(asked, _CELL.value, workdir.current(), console)
        except NotPreparedError as error:
            raise command_line.with_download(error, "trainer.compare") from error
    if outcome.signal is not None:
        sys.exit(signals.EXIT_CODES[outcome.signal])
    if outcome.failed:
        command_line.fail(RunError(f"these runs failed, and the report says why: {', '.join(outcome.failed)}"), 1)


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Takes in flags and overrides; exits 2 with one line where it cannot, 0 after --help."""
    return command_line.parse(argv, _overrides, description=_HELP)


def _report(console: Console) -> None:
    for flag in _OF_TRAINING:
        if flag.present:
            raise ConfigError(f"--{flag.name}", flag.value, "is for training; --workdirs compares runs as they are")
    if _overrides:
        key, text = _overrides[0]
        raise ConfigError(f"--config.{key}", text, "is for training; --workdirs compares runs as they are")
    comparing.report(_WORKDIRS.value, _WORKDIR.value, _command(), workdir.current(), console)


def _command() -> str:
    return shlex.join(["python", "-m", "trainer.compare", *sys.argv[1:]])


def _asked() -> Asked:
    if _STRATEGY.value == "multi_worker":
        raise ConfigError(
            "--strategy", "multi_worker", "has no place in a comparison, which takes mirrored or one_device"
        )
    trust_lib.in_packages(_TRUST.value)
    names = [] if _COMBINE.value is None else grid.methods(_COMBINE.value.split(","))
    variations = [grid.variation(each) for each in _VARY.value]
    path = command_line.DEFAULT_CONFIG if _CONFIG.value is None else _CONFIG.value
    reduction = [] if _REDUCTION.value is None else [("reduction", _REDUCTION.value)]
    with command_line.quiet():  # a configuration may import TensorFlow
        tree = loading.read_tree(path, [*_overrides, *reduction])
    devices = Request([], _STRATEGY.value, _VIRTUAL_DEVICES.value, _ALLOW_CPU.value, _TRUST.value, _DOWNLOAD.value)
    if _OBJECTIVE.value is not None and not _TUNED.value:
        raise ConfigError("--objective", _OBJECTIVE.value, "is for --tuned")
    return Asked(
        tree=tree,
        methods=names,
        variations=variations,
        seeds=_SEEDS.value,
        single_tasks=_SINGLE_TASK.value,
        workdir=_WORKDIR.value,
        command=_command(),
        devices=devices,
        tuned=Tuned(_TUNED.value, _OBJECTIVE.value),
        timed_steps=_TIMED_STEPS.value,
    )


if __name__ == "__main__":
    command_line.run(main, parse_flags)
