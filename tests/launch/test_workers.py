"""The launcher of several workers: real processes, which read TF_CONFIG as TensorFlow would, and a real sshd."""

import contextlib
import json
import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

import pytest

from launch import gpus, plans
from launch.supervision import how
from tests.test_readme import LAUNCHES
from trainer.common.errors import ConfigError

RANK = "import json, os, signal, sys, time; rank = json.loads(os.environ['TF_CONFIG'])['task']['index']\n"
MARK = "LAUNCHER_TEST"
# Saves when it is told to, as the trainer does.
SAVES = (
    "def stop(number, frame): print('saved', signal.Signals(number).name); sys.exit(130 if number == 2 else 42)\n"
    "for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1): signal.signal(number, stop)\n"
    "print('ready'); time.sleep(60)"
)
STUBBORN = (
    "for number in (1, 2, 10, 15): signal.signal(number, lambda *_: None)\nprint('ready')\nwhile True: time.sleep(9)"
)
SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", RANK + code]


@pytest.fixture
def launch(root, tmp_path):
    """Starts launchers; nothing that they started may be left, and the test ends with that."""
    mark = str(uuid.uuid4())
    started = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "launch.workers", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": "", MARK: mark, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
    assert left_after(5, mark) == []


def left_after(seconds: float, mark: str) -> list[str]:
    """Processes with the mark that still run after so many seconds."""
    deadline = time.monotonic() + seconds
    while left := [command for _, command in marked(mark)]:
        if time.monotonic() > deadline:
            for pid, _ in marked(mark):
                os.kill(pid, signal.SIGKILL)
            return left
        time.sleep(0.02)
    return []


def marked(mark: str) -> list[tuple[int, str]]:
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes():
                found.append((int(process.name), (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()))
    return found


def finish(process: subprocess.Popen, timeout: float = 30) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=timeout)
    return process.returncode, output, errors


def wait_for_lines(process: subprocess.Popen, *lines: str) -> None:
    """Reads the output until each of the lines has come, in any order."""
    missing = set(lines)
    timer = threading.Timer(30, process.kill)
    timer.start()
    while missing:
        line = process.stdout.readline()
        assert line, missing
        missing.discard(line.rstrip("\n"))
    timer.cancel()


def test_every_worker_gets_the_same_cluster_and_its_own_rank(launch):
    code, output, errors = finish(launch("--workers=3", "--", *python("print(os.environ['TF_CONFIG'])")))
    assert (code, errors) == (0, "")
    given = {line[:3]: json.loads(line[4:]) for line in output.splitlines()}
    assert {key: cluster["task"] for key, cluster in given.items()} == {
        f"[{rank}]": {"type": "worker", "index": rank} for rank in range(3)
    }
    clusters = [cluster["cluster"] for cluster in given.values()]
    assert clusters == [clusters[0]] * 3
    hosts, ports = zip(*(address.split(":") for address in clusters[0]["worker"]), strict=True)
    assert set(hosts) == {"127.0.0.1"}
    assert len(set(ports)) == 3


def test_output_comes_line_by_line_at_once_and_where_it_belongs(launch):
    program = "print('out', flush=False); print('error', file=sys.stderr); sys.stdin.read(); time.sleep(30)"
    process = launch("--workers=2", "--", *python(program))
    wait_for_lines(process, "[0] out", "[1] out")  # while they run, though they do not flush
    assert sorted(process.stderr.readline() for _ in range(2)) == ["[0] error\n", "[1] error\n"]


def test_lines_are_never_mixed_and_the_last_needs_no_end(launch):
    text = "x" * 3000
    code, output, _ = finish(
        launch("--workers=2", "--", *python(f"for _ in range(200): print('{text}')\nprint('end', end='')"))
    )
    assert code == 0
    lines = output.splitlines()
    assert sorted(set(lines)) == sorted(f"[{rank}] {line}" for rank in range(2) for line in (text, "end"))
    assert len(lines) == 402


@pytest.mark.parametrize(
    ("end", "code", "message"),
    [
        ("sys.exit(7)", 7, "worker 1 ended with exit code 7"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "worker 1 was killed by SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 139, "worker 1 was killed by SIGSEGV"),
        ("sys.exit(42)", 42, "worker 1 was stopped by a signal (exit code 42)"),
    ],
)
def test_the_first_failure_is_named_and_its_code_returned(launch, end, code, message):
    """The others end in their own time, within the grace."""
    program = f"if rank == 1: {end}\ntime.sleep(0.8); print('written'); sys.exit(1)"
    result = finish(launch("--workers=3", "--", *python(program)))
    assert result[0] == code
    assert sorted(result[1].splitlines()) == ["[0] written", "[2] written"]
    assert result[2] == f"workers: {message}; the others have 20 s to end\n"


@pytest.mark.parametrize("others", [STUBBORN, "os.kill(os.getpid(), signal.SIGSTOP)"])
def test_after_the_grace_all_are_killed_with_their_children(launch, others):
    """Those that swallow signals, those that are stopped, children, and children in sessions of their own."""
    child = [*python("time.sleep(60)")]
    family = f"import subprocess\nfor own in (True, False): subprocess.Popen({child!r}, start_new_session=own)\n"
    program = f"{family}if rank == 0: time.sleep(0.2); sys.exit(3)\n{others}"
    start = time.monotonic()
    code, _, errors = finish(launch("--workers=3", "--grace=1", "--", *python(program)))
    assert code == 3
    assert time.monotonic() - start < 10
    assert errors.splitlines() == [
        "workers: worker 0 ended with exit code 3; the others have 1 s to end",
        "workers: worker 1, worker 2: not ended 1 s after the first; killed",
    ]


@pytest.mark.parametrize(
    ("number", "told", "code"),
    [
        (signal.SIGTERM, "SIGTERM", 42),
        (signal.SIGUSR1, "SIGUSR1", 42),
        (signal.SIGINT, "SIGINT", 130),
        (signal.SIGHUP, "SIGTERM", 42),
    ],
)
def test_signals_are_passed_on_and_nothing_is_restarted(launch, number, told, code):
    process = launch("--workers=2", "--max_restarts=3", "--", *python(SAVES))
    wait_for_lines(process, "[0] ready", "[1] ready")
    process.send_signal(number)
    result = finish(process)
    assert result[0] == code
    assert sorted(result[1].splitlines()) == [f"[{rank}] saved {told}" for rank in range(2)]
    assert "restart" not in result[2]


def test_the_second_interrupt_kills_at_once(launch):
    process = launch("--workers=2", "--", *python(STUBBORN))
    wait_for_lines(process, "[0] ready", "[1] ready")
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130
    assert time.monotonic() - start < 5


def test_interrupts_of_the_terminal_reach_the_launcher_alone(launch):
    """Workers that got Ctrl-C themselves and again from the launcher would take the second one as an order to end."""
    process = launch("--workers=2", "--", *python("print('ready', os.getsid(0), os.getpid()); time.sleep(60)"))
    for _ in range(2):
        session, pid = process.stdout.readline().split()[2:]
        assert session == pid
        assert int(session) != os.getsid(process.pid)


def test_a_killed_launcher_takes_all_with_it(launch):
    child = [*python("time.sleep(60)")]
    process = launch("--workers=2", "--", *python(f"import subprocess; subprocess.Popen({child!r})\n{STUBBORN}"))
    wait_for_lines(process, "[0] ready", "[1] ready")
    process.kill()


def test_a_killed_guardian_takes_its_worker_with_it(launch):
    """As when the system runs out of memory and chooses that one."""
    child = [*python("time.sleep(60)")]
    guardian = "os.kill(os.getppid(), signal.SIGKILL)"
    program = f"import subprocess\nsubprocess.Popen({child!r}, stdout=2)\nif rank: {guardian}\n{STUBBORN}"
    code, _, errors = finish(launch("--workers=2", "--grace=0.2", "--", *python(program)))
    assert code == 137
    assert "worker 1 was killed by SIGKILL" in errors


def test_without_a_reader_the_workers_are_told_to_end(launch, tmp_path):
    program = (
        "def stop(*_): open(f'saved{rank}', 'w'); sys.exit(42)\nsignal.signal(signal.SIGTERM, stop)\n"
        "while True: print('line'); time.sleep(0.01)"
    )
    process = launch("--workers=2", "--", *python(program))
    process.stdout.readline()
    process.stdout.readline()
    time.sleep(0.2)
    process.stdout.close()
    process.stdout = None
    assert finish(process)[0] == 42
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved0", "saved1"]


COUNTED = (
    "import pathlib; own = pathlib.Path(f'round{rank}'); past = int(own.read_text()) if own.exists() else 0\n"
    "own.write_text(str(past + 1))\nport = json.loads(os.environ['TF_CONFIG'])['cluster']['worker'][0]\n"
    "print(past, port)\n"
)


@pytest.mark.parametrize(
    ("flags", "codes", "code", "said"),
    [
        ([], [1], 1, []),
        ([], [42], 42, []),
        (["--max_restarts=0"], [1], 1, ["no restart is left of 0"]),
        (["--max_restarts=2"], [1, 1, 0], 0, ["restart 1 of 2", "restart 2 of 2"]),
        (["--max_restarts=1"], [3, 4], 4, ["restart 1 of 1", "no restart is left of 1"]),
        (["--max_restarts=1"], [2], 2, []),
        (["--max_restarts=1"], [42, 1, 0], 0, ["restart after a preemption in 1 s", "restart 1 of 1"]),
        (["--max_restarts=0"], [42, 0], 0, ["restart after a preemption in 1 s"]),
    ],
)
def test_restarts(launch, flags, codes, code, said):
    """All together, so many times, on other ports; preemptions are free but not without a pause."""
    program = f"{COUNTED}if rank == 1: sys.exit({codes}[past])\ntime.sleep(0.2); sys.exit(bool({codes}[past]))"
    result = finish(launch("--workers=2", *flags, "--", *python(program)))
    assert result[0] == code
    lines = [line for line in result[2].splitlines() if "restart" in line]
    assert lines == [f"workers: {line}" for line in said]
    rounds = [line.split(maxsplit=2)[1:] for line in result[1].splitlines()]
    assert sorted(number for number, _ in rounds) == sorted(str(number) for number in 2 * list(range(len(codes))))
    assert len({port for _, port in rounds}) == len(codes)


def test_a_signal_ends_the_pause_before_a_restart(launch):
    process = launch("--workers=1", "--max_restarts=0", "--", *python("sys.exit(42)"))
    while "restart" not in process.stderr.readline():
        pass
    process.terminate()
    assert finish(process)[0] == 42


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--workers=2"], "arguments: must end with -- and the command"),
        (["--workers=2", "--"], "arguments: must end with -- and the command"),
        (["--workers=2", "python"], "arguments='python': must end with -- and the command"),
        (["more", "--workers=2", "--", "true"], "arguments='more': are not known"),
        (["--", "true"], "--workers, --hosts: neither given"),
        (["--workers=2", "--hosts=a", "--", "true"], "--workers, --hosts: both given"),
        (["--workers=0", "--", "true"], "--workers=0: must be at least 1"),
        (["--workers=many", "--", "true"], "flag --workers=many: "),
        (["--worker=2", "--", "true"], "Unknown command line flag 'worker'"),
        (["--workers=2", "--", "no-such-program"], "command='no-such-program': is not found"),
        (["--workers=2", "--", "./no-such-program"], "command='./no-such-program': is not found"),
        (["--workers=2", "--", ""], "command='': is not found"),
        (["--workers=2", "--directory=no-such", "--", "true"], "--directory='"),
        (["--workers=2", "--grace=-1", "--", "true"], "flag --grace=-1"),
        (["--workers=2", "--config.steps=3", "--", "true"], "--config.steps='3': belongs to the command, after --"),
        (
            ["--workers=2", "--gpus_per_worker=4", "--", "true"],
            "--gpus_per_worker=4: for 2 workers needs 8 GPUs; there",
        ),
        (["--hosts=", "--", "true"], "--hosts=''"),
        (["--hosts=a,-oProxyCommand=x", "--", "true"], "--hosts='-oProxyCommand=x': must be a host"),
        (["--hosts=a b", "--", "true"], "--hosts='a b': must be a host"),
        (["--hosts=a,a", "--port=65535", "--", "true"], "--port=65535: leaves too few ports"),
        (["--hosts=a", "--environment=NO_SUCH", "--", "true"], "--environment='NO_SUCH': is not a variable"),
        (["--hosts=a", "--ssh=no-such-program -v", "--", "true"], "--ssh='no-such-program -v': is not found"),
        (["--hosts=a", "--ssh='", "--", "true"], '--ssh="\'": '),
    ],
)
def test_mistakes_are_one_line(launch, arguments, error):
    code, output, errors = finish(launch(*arguments))
    assert (code, output) == (2, "")
    assert errors.startswith(f"error: {error}")
    assert errors.count("\n") == 1


def test_help(launch):
    code, output, _ = finish(launch("--help"))
    assert code == 0
    for flag in ("--workers", "--hosts", "--grace", "--max_restarts", "--gpus_per_worker"):
        assert f"\n  {flag}:" in output


def test_what_follows_the_dashes_is_the_commands(launch):
    code, output, _ = finish(launch("--workers=1", "--", "echo", "--help", "--config.steps=3", "--", "'a b'"))
    assert (code, output) == (0, "[0] --help --config.steps=3 -- 'a b'\n")


def test_directory(launch, tmp_path):
    (tmp_path / "there").mkdir()
    code, output, _ = finish(launch("--workers=1", "--directory=there", "--", "pwd"))
    assert (code, output) == (0, f"[0] {tmp_path}/there\n")


@pytest.mark.parametrize(
    ("gpus_there", "workers", "per_worker", "expected"),
    [
        ([], 2, None, [None, None]),
        (["0", "1"], 1, None, [None]),
        (["0", "1", "2", "3"], 2, None, ["0,1", "2,3"]),
        (["7", "GPU-a", "2"], 3, None, ["7", "GPU-a", "2"]),
        (["0", "1", "2"], 2, 1, ["0", "1"]),
        (["0"], 2, 0, ["", ""]),
        ([], 2, 0, ["", ""]),
    ],
)
def test_gpus_are_shared_out(gpus_there, workers, per_worker, expected):
    assert gpus.divided(gpus_there, workers, per_worker) == expected


@pytest.mark.parametrize(
    ("gpus_there", "per_worker", "field"), [(["0"], None, "--workers"), (["0", "1", "2"], 2, "--gpus_per_worker")]
)
def test_gpus_that_cannot_be_shared_out(gpus_there, per_worker, field):
    with pytest.raises(ConfigError) as error:
        gpus.divided(gpus_there, 2, per_worker)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("given", "expected"), [("0,1", ["0", "1"]), ("", []), ("-1", []), ("3, GPU-ab,-1,2", ["3", "GPU-ab"])]
)
def test_gpus_that_the_environment_shows(given, expected):
    assert gpus.visible({"CUDA_VISIBLE_DEVICES": given}) == expected


def test_gpus_that_the_driver_lists(tmp_path, monkeypatch):
    lines = [f"GPU {index}: NVIDIA A100-SXM4-40GB (UUID: GPU-5f2c1d3e-{index})" for index in range(2)]
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert gpus.visible({}) == ["0", "1"]


def test_workers_on_a_machine_get_their_own_gpus(launch):
    program = python("print(os.environ['CUDA_VISIBLE_DEVICES'])")
    code, output, errors = finish(launch("--workers=2", "--", *program, CUDA_VISIBLE_DEVICES="4,5,6,7"))
    assert code == 0
    assert sorted(output.splitlines()) == ["[0] 4,5", "[1] 6,7"]
    assert errors == "workers: CUDA_VISIBLE_DEVICES of each worker: 4,5 | 6,7\n"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1, "ended with exit code 1"),
        (130, "ended with exit code 130"),
        (137, "was killed by SIGKILL"),
        (255, "ended with exit code 255"),
    ],
)
def test_exit_codes_in_words(code, expected):
    assert how(code) == expected


def test_free_ports_are_free_and_differ():
    ports = plans.free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as probe:
            probe.bind(("", port))


def test_firewall_lets_in_the_hosts_alone():
    command = shlex.split(plans.firewall(["me@127.0.0.1", "127.0.0.1", "you@127.0.0.2", "[::1]"], 4000))
    assert command[0] == "nft"
    assert "ip saddr { 127.0.0.1, 127.0.0.2 } tcp dport 4000-4001 accept; ip6 saddr { ::1 } tcp dport" in command[1]
    assert command[1].endswith("tcp dport 4000-4001 drop; }; }")
    nft = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")
    if nft and subprocess.run([nft, "list", "tables"], capture_output=True).returncode == 0:
        subprocess.run([nft, "--check", *command[1:]], check=True)


@pytest.fixture(scope="module")
def ssh(tmp_path_factory):
    """An sshd on 127.0.0.1 for this user alone; gives the ssh command that reaches it."""
    if SSHD is None or shutil.which("ssh-keygen") is None:
        pytest.skip("needs sshd (on Debian and Ubuntu: apt install openssh-server)")
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    if os.geteuid() == 0:
        pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it keeps its unprivileged part
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "user.pub",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "MaxStartups": "100",
    }
    client = {
        "Port": port,
        "IdentityFile": folder / "user",
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
    }
    for name, settings in (("sshd_config", server), ("ssh_config", client)):
        (folder / name).write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", folder / "sshd_config"], stdin=subprocess.DEVNULL, stderr=log
        )
    command = f"ssh -F {folder}/ssh_config"
    try:
        deadline = time.monotonic() + 10
        while subprocess.run([*command.split(), "-oBatchMode=yes", "127.0.0.1", "true"]).returncode:
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield command
    finally:
        process.kill()
        process.wait()


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
    assert "tcp dport 5000-5001 drop" in errors


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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 42), (signal.SIGINT, 130)])
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
    """As they are written, but for the number of steps and the hosts."""
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
        [*words, "--config.steps=20"], cwd=project, env=environment, capture_output=True, text=True, timeout=400
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "[0] " in result.stdout
    assert json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 20
