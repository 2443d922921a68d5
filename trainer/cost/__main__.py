"""Predicts what a step costs on many devices: python -m trainer.cost --config=configs/digits.py --replicas=8,64,512."""

from trainer.common import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # what is imported below takes a while

import math
import sys
from collections.abc import Sequence

from absl import flags
from rich.console import Console

from trainer import command_line
from trainer.common import trust as trust_lib
from trainer.common.errors import ConfigError, UntrustedError
from trainer.config import loading
from trainer.cost import prediction
from trainer.cost.machine import Machine

_CONFIG, _COMBINE, _REDUCTION = command_line.config_flags()
_REPLICAS = flags.DEFINE_list("replicas", ["8"], "Numbers of replicas, one on each device, for example 8,64,512.")
_BATCH = flags.DEFINE_integer(
    "batch_per_replica",
    None,
    "Examples on each replica, so that the global batch grows with their number; default the configuration's "
    "batch_size, as on one device.",
    lower_bound=1,
)
_LOSSES = flags.DEFINE_list("losses", None, "Only the first N losses, for example 3,10; default all of them.")
_COMPARE = flags.DEFINE_bool(
    "compare", False, "Every class of methods against the plain sum, instead of the configuration's own method."
)
_TRUST = command_line.trust_flag()
_MARKDOWN = flags.DEFINE_bool("markdown", False, "Print tables in Markdown.")

_TFLOPS = flags.DEFINE_float(
    "device_tflops", 312.0, "Peak of a device at the model's precision, in 10^12 operations per second."
)
_UTILISATION = flags.DEFINE_float(
    "utilisation",
    0.18,
    "The part of the peak that forward and backward passes reach, above 0 and at most 1; the default is what NVIDIA "
    "publishes for ResNet-50 in TensorFlow on an A100.",
)
_FLOAT64 = flags.DEFINE_float("float64_tflops", 9.7, "Peak of a device in float64, in which Gramians are computed.")
_MEMORY = flags.DEFINE_float(
    "memory_gbytes", 2000.0, "What a device reads and writes in its own memory, in 10^9 bytes per second."
)
_NODE_SIZE = flags.DEFINE_integer("node_size", 8, "Devices in a node.", lower_bound=1)
_NODE_LINK = flags.DEFINE_float(
    "node_link_gbytes", 300.0, "What a device sends to the others of its node, in 10^9 bytes per second."
)
_LINK = flags.DEFINE_float("link_gbytes", 25.0, "What a device sends to other nodes, in 10^9 bytes per second.")
_LATENCY = flags.DEFINE_float("latency_us", 5.0, "Microseconds before a message arrives, however short it is.")

_HELP = """Predicts operations, bytes reduced and seconds of a step on many devices.

  python -m trainer.cost --config=configs/digits.py --replicas=8,64,512
  python -m trainer.cost --combine=pcgrad --config.batch_size=256 --losses=2,3 --device_tflops=990 --utilisation=0.3
  python -m trainer.cost --replicas=8,64,512 --compare --markdown

Nothing is trained and no GPU is used: the model is built and traced on this machine's CPU, and the devices' rates are
assumed. Input, host and the start of kernels are not in the prediction, nor is what only steps that report compute.

Flags:
"""

_overrides: list[tuple[str, str]] = []


def main(argv: Sequence[str]) -> None:
    """Prints what the flags ask for; exits 2 with one line where they cannot be used."""
    command_line.refuse_arguments(argv)
    with command_line.errors_in_one_line():
        console = Console(highlight=False, file=sys.stdout)
        try:
            _predict(console)
        except UntrustedError as error:
            raise command_line.with_trust(error, "trainer.cost") from error
        command_line.refuse_lost_output(console.file)


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Takes in flags and overrides; exits 2 with one line where it cannot, 0 after --help."""
    return command_line.parse(argv, _overrides, description=_HELP)


def _predict(console: Console) -> None:
    replicas, machine, trust = _whole_numbers(_REPLICAS), _machine(), trust_lib.in_packages(_TRUST.value)
    chosen = [] if _LOSSES.value is None else _whole_numbers(_LOSSES)
    with command_line.quiet():  # a configuration may import TensorFlow
        path = _CONFIG.value or command_line.DEFAULT_CONFIG
        config = loading.load(path, _overrides, _COMBINE.value, _REDUCTION.value)
    for count in chosen:
        if count > len(config.losses):
            raise ConfigError("--losses", count, f"must be at most {len(config.losses)}, the configuration's losses")
    with console.status("Building the model and counting its operations ..."):
        workload, passes = prediction.count(config, _BATCH.value or config.batch_size, trust)
    shown = prediction.tables(workload, passes, machine, replicas, losses=chosen, compare=_COMPARE.value)
    for table in shown:
        if _MARKDOWN.value:
            console.print(f"{table.title}:\n\n{table.markdown()}\n", markup=False, soft_wrap=True)
        else:
            console.print(table.for_terminal())
    console.print(f"Assumed: {workload.examples} examples per replica; {machine}.", markup=False, soft_wrap=True)


def _whole_numbers(flag: flags.FlagHolder[list[str]]) -> list[int]:
    if not flag.value or not all(part.isdecimal() and 0 < int(part) < 2**31 for part in flag.value):
        raise ConfigError(
            f"--{flag.name}", ",".join(flag.value), "must be whole numbers of at least 1, for example 8,64,512"
        )
    return list(dict.fromkeys(int(part) for part in flag.value))


def _machine() -> Machine:
    for flag in (_TFLOPS, _UTILISATION, _FLOAT64, _MEMORY, _NODE_LINK, _LINK):
        if not 0 < flag.value < math.inf:
            raise ConfigError(f"--{flag.name}", flag.value, "must be a finite number above 0")
    if _UTILISATION.value > 1:
        raise ConfigError("--utilisation", _UTILISATION.value, "is a part of the peak: at most 1")
    if not 0 <= _LATENCY.value < math.inf:
        raise ConfigError("--latency_us", _LATENCY.value, "must be a finite number of at least 0")
    return Machine(
        tflops=_TFLOPS.value,
        utilisation=_UTILISATION.value,
        float64_tflops=_FLOAT64.value,
        memory_gbytes=_MEMORY.value,
        node_size=_NODE_SIZE.value,
        node_link_gbytes=_NODE_LINK.value,
        link_gbytes=_LINK.value,
        latency_us=_LATENCY.value,
    )


if __name__ == "__main__":
    command_line.run(main, parse_flags)
