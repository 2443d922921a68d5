"""A Slurm of the tests' own: a controller and two nodes on this machine, in a temporary folder."""

import contextlib
import os
import pathlib
import pwd
import re
import secrets
import shutil
import socket
import string
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "srun", "scancel", "squeue")
NODES = ("127.0.0.9", "127.0.0.10")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


def missing() -> str | None:
    """Returns the reason why there can be no Slurm here; None where there can."""
    if absent := [program for program in PROGRAMS if shutil.which(program) is None]:
        return f"needs {', '.join(absent)}; bash tests/launch/install.sh installs them (Debian, as root)"
    return None if os.getuid() == 0 else "slurmd starts other users' jobs, so it needs root"


class Cluster:
    """A running Slurm.

    Attributes:
      environment: variables with which Slurm's programs find it.
    """

    def __init__(self, configuration: pathlib.Path):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "TF_CONFIG"))}
        self.environment = inherited | {"SLURM_CONF": str(configuration)}

    def call(self, *command: str, cwd: pathlib.Path | None = None) -> str:
        """Runs one of Slurm's programs and returns what it prints."""
        result = subprocess.run(command, cwd=cwd, env=self.environment, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, f"{' '.join(command)}: {result.stdout}{result.stderr}"
        return result.stdout

    def submit(self, folder: pathlib.Path, *arguments: str) -> str:
        """The number of a new job, submitted in `folder`."""
        return self.call("sbatch", "--parsable", *arguments, cwd=folder).strip()

    def job(self, number: str) -> dict[str, str]:
        """Returns Slurm's record of a job, or of `<array>_<task>`: field → value."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.call("scontrol", "--oneliner", "show", "job", number)))

    def wait_for_end(self, number: str, timeout: float) -> dict[str, str]:
        """The job when it has ended for good."""
        wait_until(lambda: self.job(number)["JobState"] in ENDED, f"the end of job {number}", timeout)
        return self.job(number)


def wait_until(condition: Callable[[], object], what: str, timeout: float) -> None:
    """Waits until the condition holds, in seconds."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"waited {timeout:g} s for {what}"
        time.sleep(0.2)


@contextlib.contextmanager
def running(first_job: int = 1) -> Iterator[Cluster]:
    """Starts munge, the controller and two nodes, and ends them with all jobs afterwards.

    Args:
      first_job: number of the first job. It sets the ports of the job's workers, so two clusters that run at once need
        numbers that are apart.
    """
    with tempfile.TemporaryDirectory(prefix="slurm_") as name, contextlib.ExitStack() as stack:
        folder = pathlib.Path(name)
        folder.chmod(0o755)  # munge and Slurm refuse folders that others may write or cannot enter
        for subfolder in ("munge", "state", *(f"spool.{node}" for node in NODES)):
            (folder / subfolder).mkdir(mode=0o755)
        key = folder / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        cluster = Cluster(_configuration(folder, first_job))

        def start(name: str, *command: str) -> None:
            log = stack.enter_context((folder / f"{name}.log").open("w"))
            process = subprocess.Popen(command, env=cluster.environment, stdout=log, stderr=log)
            stack.callback(_end, process)

        files = [f"--{kind}-file={folder}/munge/{kind}" for kind in ("pid", "log", "seed")]
        start("munged", "munged", "--foreground", f"--key-file={key}", f"--socket={folder}/munge/socket", *files)
        wait_until((folder / "munge" / "socket").exists, "munge's socket", 20)
        start("slurmctld", "slurmctld", "-D")
        for node in NODES:
            start(node, "slurmd", "-D", "-N", node)

        def idle() -> list[str]:
            states = ["sinfo", "--noheader", "--Node", "--format=%N %T"]
            result = subprocess.run(states, env=cluster.environment, capture_output=True, text=True, timeout=60)
            return [line.split()[0] for line in result.stdout.splitlines() if line.endswith(" idle")]

        try:
            wait_until(lambda: len(idle()) == len(NODES), "two idle nodes", 60)
        except AssertionError:
            for log in sorted(folder.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()[-3000:]}")
            raise
        try:
            yield cluster
        finally:
            # The daemons leave what jobs have started behind.
            cluster.call("scancel", "--user", pwd.getpwuid(os.getuid()).pw_name)
            wait_until(lambda: len(idle()) == len(NODES), "the end of all jobs", 60)


def _configuration(folder: pathlib.Path, first_job: int) -> pathlib.Path:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        controller, first_node, second_node = (each.getsockname()[1] for each in sockets)
    text = string.Template((HERE / "slurm.conf").read_text()).substitute(
        host=socket.gethostname().partition(".")[0],
        user=pwd.getpwuid(os.getuid()).pw_name,
        folder=folder,
        first_job=first_job,
        controller=controller,
        first_node=first_node,
        second_node=second_node,
    )
    configuration = folder / "slurm.conf"
    configuration.write_text(text)
    shutil.copy(HERE / "gres.conf", folder)
    return configuration


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
