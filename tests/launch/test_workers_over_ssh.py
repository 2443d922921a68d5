"""The launcher with workers on other hosts: a real sshd on this one; and the README's commands."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid

import pytest

from launch import plans
from tests.launch.programs import COUNTED, MARK, SAVES, STUBBORN, finish, marked, python, wait_for_lines
from tests.launch.small import SMALL
from tests.readmes import LAUNCHES


def over_ssh(launch, ssh: str, *arguments: str, hosts: str = "127.0.0.1,127.0.0.1", **environment: str):
    return launch(f"--hosts={hosts}", f"--ssh={ssh}", f"--environment={MARK}", *arguments, **environment)


def test_workers_over_ssh(launch, ssh, tmp_path):
    """TF_CONFIG with the hosts and their ports, quoted arguments, variables and the directory arrive."""
    text = """a 'quoted' "one" with $HOME, `x`, \\ and a\nline"""
    process = over_ssh(
        launch,
        ssh,
        "--environment=TEXT",
        "--port=5000",
        "--",
        *python("print(json.dumps([rank, sys.argv[1], os.environ['TEXT'], os.getcwd(), os.environ['TF_CONFIG']]))"),
        text,
        TEXT=text,
    )
    code, output, errors = finish(process)
    assert code == 0, errors
    addresses = ["127.0.0.1:5000", "127.0.0.1:5001"]
    for rank, line in enumerate(sorted(output.splitlines())):
        assert line.startswith(f"[{rank}] ")
        *given, cluster = json.loads(line[4:])
        assert given == [rank, text, text, str(tmp_path)]
        assert json.loads(cluster) == {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
    assert "no authentication" in errors
    assert "nft " in errors
    assert "tcp dport 5000 drop" in errors
    assert "tcp dport 5001 drop" in errors


def test_gpus_over_ssh(launch, ssh):
    program = python("print(os.environ['CUDA_VISIBLE_DEVICES'])")
    code, output, _ = finish(over_ssh(launch, ssh, "--gpus_per_worker=2", "--", *program))
    assert (code, sorted(output.splitlines())) == (0, ["[0] 0,1", "[1] 2,3"])


def test_failures_over_ssh(launch, ssh):
    """Reported, waited for, killed and restarted as at home."""
    fails = "if rank == 1 and not past:\n  while not os.path.exists('round0'): time.sleep(0.01)\n"
    fails += "  os.kill(os.getpid(), signal.SIGKILL)\nif past: sys.exit()\n"
    process = over_ssh(launch, ssh, "--grace=0.3", "--max_restarts=1", "--", *python(COUNTED + fails + STUBBORN))
    code, output, errors = finish(process)
    assert code == 0
    assert output.count("[0] 1 127.0.0.1:") == output.count("[1] 1 127.0.0.1:") == 1
    assert "worker 1 (127.0.0.1) was killed by SIGKILL; the others have 0.3 s to end" in errors
    assert "worker 0 (127.0.0.1): not ended 0.3 s after the first; killed" in errors
    assert errors.splitlines()[-1] == "workers: restart 1 of 1"


def test_a_lost_connection(launch, ssh):
    """Its worker is killed there, reported here, and restarted only when it must have been killed."""
    program = (
        "connection = open(f'/proc/{os.getppid()}/stat').read().rpartition(')')[2].split()[1]\n"
        f"if rank == 1: os.kill(int(connection), signal.SIGKILL)\n{STUBBORN}"
    )
    process = over_ssh(
        launch, ssh, "--grace=0.3", "--max_restarts=1", "--connection_timeout=10", "--", *python(program)
    )
    errors = ""
    while "restart" not in errors:
        assert (line := process.stderr.readline()), errors
        errors += line
    assert "worker 1 (127.0.0.1) ended with exit code 255, which is also ssh's own" in errors
    assert errors.endswith("workers: restart 1 of 1 in 10 s\n")
    process.terminate()
    assert finish(process)[0] == 255


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 42), pytest.param(signal.SIGINT, 130, marks=pytest.mark.ci_only)]
)
def test_signals_over_ssh(launch, ssh, number, code):
    process = over_ssh(launch, ssh, "--", *python(SAVES))
    wait_for_lines(process, "[0] ready", "[1] ready")
    process.send_signal(number)
    assert finish(process)[0] == code


def test_a_killed_launcher_takes_workers_on_hosts_with_it(launch, ssh):
    child = [*python("time.sleep(60)")]
    program = f"import subprocess; subprocess.Popen({child!r}, start_new_session=True)\n{STUBBORN}"
    process = over_ssh(launch, ssh, "--", *python(program))
    wait_for_lines(process, "[0] ready", "[1] ready")
    process.kill()


@pytest.mark.ci_only
def test_a_silent_launcher_is_lost(launch, ssh):
    """As behind a broken line, where no end of the connection is ever seen."""
    mark = str(uuid.uuid4())
    process = over_ssh(launch, ssh, "--connection_timeout=10", "--", *python(STUBBORN), **{MARK: mark})
    wait_for_lines(process, "[0] ready", "[1] ready")
    there = {pid for pid, command in marked(mark) if "ready" in command and "launch.workers" not in command}
    assert len(there) == 2
    time.sleep(12)
    assert there <= {pid for pid, _ in marked(mark)}  # signs of life kept them
    process.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 20
    while there & {pid for pid, _ in marked(mark)}:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_hosts_that_cannot_be_reached(launch, ssh):
    process = over_ssh(launch, f"{ssh} -p 1", "--grace=5", "--", "true")
    code, _, errors = finish(process)
    assert code == 255
    assert "Connection refused" in errors
    assert "ended with exit code 255, which is also ssh's own when it has no connection" in errors


def test_commands_that_hosts_do_not_have(launch, ssh):
    code, _, errors = finish(over_ssh(launch, ssh, "--max_restarts=3", "--", "no-such-program"))
    assert code == 2
    assert "[0] error: no-such-program: No such file or directory" in errors
    assert "restart" not in errors


@pytest.mark.ci_only
@pytest.mark.parametrize("command", LAUNCHES)
def test_the_readmes_commands(root, tmp_path, request, command):
    """As they are written, except for the number of steps, the size of the model and the hosts."""
    project = tmp_path / "project"
    shutil.copytree(root, project, ignore=shutil.ignore_patterns(".*", "runs", "__pycache__"))
    (project / ".venv" / "bin").mkdir(parents=True)
    interpreter = project / ".venv" / "bin" / "python"
    interpreter.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    interpreter.chmod(0o755)
    words = [str(interpreter) if word == "python" else word for word in shlex.split(command)]
    if "--hosts=a,b" in words:
        (port,) = plans.free_ports(1)  # the next one is free in all likelihood
        at = words.index("--hosts=a,b")
        ssh = request.getfixturevalue("ssh")
        words[at : at + 1] = ["--hosts=127.0.0.1,127.0.0.1", f"--ssh={ssh}", f"--port={port}"]
    (workdir,) = (project / word.partition("=")[2] for word in words if word.startswith("--workdir="))
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [*words, *SMALL, "--config.steps=20"], cwd=project, env=environment, capture_output=True, text=True, timeout=400
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "[0] " in result.stdout
    assert json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 20
