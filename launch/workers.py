"""Workers that train together, here or over ssh: python -m launch.workers --workers=2 -- python -m trainer.main ..."""

from trainer.common import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # what is imported below takes a while

import os
import shlex
import shutil
from collections.abc import Callable, Sequence

from absl import flags

from launch import gpus, output, plans
from launch.output import say
from launch.supervision import PREEMPTED, Supervisor
from launch.worker_process import WorkerStart
from trainer import command_line
from trainer.common import visible_gpus
from trainer.common.errors import ConfigError

_WORKERS = flags.DEFINE_integer("workers", None, "How many workers to start on this machine.")
_HOSTS = flags.DEFINE_list(
    "hosts", None, "Start a worker on each of these over ssh instead, for example a,b or me@a,me@b; a host may repeat."
)
_PORT = flags.DEFINE_integer(
    "port",
    23456,
    "Where a worker on a host listens; the next port for another on the same host.",
    lower_bound=1,
    upper_bound=65535,
)
_DIRECTORY = flags.DEFINE_string("directory", None, "Where the command runs; default this directory, on hosts as well.")
_ENVIRONMENT = flags.DEFINE_list(
    "environment", [], "Names of variables of this environment that hosts get, too, for example TFDS_DATA_DIR."
)
_GPUS = flags.DEFINE_integer(
    "gpus_per_worker",
    None,
    "GPUs of each worker. By default workers on this machine share its GPUs out; a worker on a host has all of them.",
    lower_bound=0,
)
_GRACE = flags.DEFINE_float(
    "grace", 20, "Seconds from the first failure until the workers that are left are killed.", lower_bound=0
)
_STOP_TIMEOUT = flags.DEFINE_float(
    "stop_timeout",
    600,
    "Seconds that workers have to save and end after a signal to the launcher, or after the reader of its output is "
    "gone, until they are killed.",
    lower_bound=0,
)
_MAX_RESTARTS = flags.DEFINE_integer(
    "max_restarts",
    None,
    f"Restart all workers after a failure, at most this number of times; preemptions (exit code {PREEMPTED}) do not "
    "count. By default nothing is restarted.",
    lower_bound=0,
)
_SSH = flags.DEFINE_string("ssh", "ssh", "The ssh command and its options, for example 'ssh -p 2222'.")
_SILENCE = flags.DEFINE_float(
    "connection_timeout",
    60,
    "Seconds of silence after which the connection to a host is lost; its worker is killed then.",
    lower_bound=10,
)

_HELP = """Starts a command as several workers that train together and end together.

  python -m launch.workers --workers=2 -- python -m trainer.main --strategy=multi_worker
  python -m launch.workers --hosts=a,b --max_restarts=3 -- .venv/bin/python -m trainer.main --strategy=multi_worker

Hosts need python3 and keys that let ssh in without a password. TensorFlow's server, which every worker is, knows no
authentication and listens on every interface: a firewall must keep out all but the workers. With --hosts, the
launcher prints a command that sets one up.

A signal, or an output that nobody reads any more, lets the workers save and end; who has not ended --stop_timeout
seconds later is killed. A second Ctrl-C kills at once.

Flags:
"""
_FOR_GOOD = (0, 2, 130)  # done, a bad configuration, ended by hand
_SHORT, _LONGEST_PAUSE = 30.0, 60.0  # seconds: a round below the first is followed by a pause up to the second

_overrides: list[tuple[str, str]] = []
_command: list[str] = []


def main(argv: Sequence[str]) -> int:
    """Runs what the flags ask for and returns the exit code; exits 2 with one line where they cannot be used."""
    output.open_all()
    try:
        _check(argv)
        directory = os.path.abspath(_DIRECTORY.value or os.getcwd())
        if _HOSTS.value is None:
            _check_here(directory)
            devices = gpus.divided(visible_gpus.visible(os.environ), _WORKERS.value, _GPUS.value)
        else:
            plans.check_hosts(_HOSTS.value, _PORT.value)
            passed_on = {name: _passed_on(name) for name in _ENVIRONMENT.value}
            ssh, fence = _ssh(), plans.firewall(_HOSTS.value, _PORT.value, _GPUS.value)
    except ConfigError as error:
        command_line.fail(error, 2)

    def here() -> list[WorkerStart]:
        return plans.local(_command, directory, devices)

    def elsewhere() -> list[WorkerStart]:
        return plans.remote(
            _command,
            directory,
            passed_on,
            _HOSTS.value,
            port=_PORT.value,
            gpus_per_worker=_GPUS.value,
            ssh=ssh,
            silence=_SILENCE.value,
        )

    with Supervisor() as supervisor:
        if _HOSTS.value is None:
            if any(devices):
                say(f"CUDA_VISIBLE_DEVICES of each worker: {' | '.join(map(str, devices))}")
            return _rounds(supervisor, here)
        say("TensorFlow's server and NCCL have no authentication; this keeps others from them, on each host, as root:")
        say(fence)
        return _rounds(supervisor, elsewhere)


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Takes in flags and, after `--`, the command; exits 2 with one line where it cannot, 0 after --help."""
    end = argv.index("--") if "--" in argv else len(argv)
    _command[:] = argv[end + 1 :]
    return command_line.parse(argv[:end], _overrides, description=_HELP, takes_config=False)


def _rounds(supervisor: Supervisor, planned: Callable[[], list[WorkerStart]]) -> int:
    """Starts all workers together, and again while restarts are left; returns the last exit code."""
    failures = short = 0
    while True:
        outcome = supervisor.run(planned(), _GRACE.value, _STOP_TIMEOUT.value)
        code, limit = outcome.code, _MAX_RESTARTS.value
        if code in _FOR_GOOD or limit is None or supervisor.pause(0):
            return code
        if code == PREEMPTED:
            short = short + 1 if outcome.seconds < _SHORT else 0
            wait, which = min(2.0 ** (short - 1), _LONGEST_PAUSE) if short else 0.0, "after a preemption"
        else:
            failures += 1
            if failures > limit:
                say(f"no restart is left of {limit}")
                return code
            short, wait, which = 0, 0.0, f"{failures} of {limit}"
        if outcome.lost and _HOSTS.value is not None:
            wait = max(wait, _SILENCE.value)  # by then a worker behind a lost connection has been killed
        say(f"restart {which}" + (f" in {wait:g} s" if wait else ""))
        if supervisor.pause(wait):
            return code


def _check(argv: Sequence[str]) -> None:
    for key, value in _overrides:
        raise ConfigError(f"--config.{key}", value, "belongs to the command, after --")
    if not _command:
        reason = "must end with -- and the command, for example -- python -m trainer.main --strategy=multi_worker"
        raise ConfigError("arguments", " ".join(argv[1:]) or ConfigError.ABSENT, reason)
    command_line.refuse_arguments(argv)
    if (_WORKERS.value is None) == (_HOSTS.value is None):
        given = "both given" if _HOSTS.value else "neither given"
        raise ConfigError("--workers, --hosts", ConfigError.ABSENT, f"{given}; one is needed")
    if _WORKERS.value is not None and _WORKERS.value < 1:
        raise ConfigError("--workers", _WORKERS.value, "must be at least 1")


def _check_here(directory: str) -> None:
    if not os.path.isdir(directory):
        raise ConfigError("--directory", directory, "is not a directory")
    program = os.path.join(directory, _command[0]) if os.sep in _command[0] else _command[0]
    if not shutil.which(program):
        raise ConfigError("command", _command[0], "is not found, or not a program")


def _ssh() -> list[str]:
    try:
        command = shlex.split(_SSH.value)
    except ValueError as error:
        raise ConfigError("--ssh", _SSH.value, f"cannot be split into words: {error}") from error
    if not command or not shutil.which(command[0]):
        raise ConfigError("--ssh", _SSH.value, "is not found, or not a program")
    return command


def _passed_on(name: str) -> str:
    if name not in os.environ:
        raise ConfigError("--environment", name, "is not a variable of this environment")
    return os.environ[name]


if __name__ == "__main__":
    command_line.run(main, parse_flags)
