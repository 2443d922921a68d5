"""The launcher of several workers: real processes, which read TF_CONFIG as TensorFlow would."""

import json
import os
import signal
import subprocess
import time

import pytest

from tests.launch.programs import COUNTED, SAVES, STUBBORN, finish, python, wait_for_lines


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
        pytest.param("sys.exit(7)", 7, "worker 1 ended with exit code 7", marks=pytest.mark.ci_only),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "worker 1 was killed by SIGKILL"),
        pytest.param(
            *("os.kill(os.getpid(), signal.SIGSEGV)", 139, "worker 1 was killed by SIGSEGV"), marks=pytest.mark.ci_only
        ),
        pytest.param(
            *("sys.exit(42)", 42, "worker 1 was stopped by a signal (exit code 42)"), marks=pytest.mark.ci_only
        ),
    ],
)
def test_the_first_failure_is_named_and_its_code_returned(launch, end, code, message):
    """The others end in their own time, within the grace."""
    program = f"if rank == 1: {end}\ntime.sleep(0.8); print('written'); sys.exit(1)"
    result = finish(launch("--workers=3", "--", *python(program)))
    assert result[0] == code
    assert sorted(result[1].splitlines()) == ["[0] written", "[2] written"]
    assert result[2] == f"workers: {message}; the others have 20 s to end\n"


def test_after_the_grace_all_are_killed_with_their_children(launch):
    """Those that swallow signals, children, and children in sessions of their own."""
    child = [*python("time.sleep(60)")]
    family = f"import subprocess\nfor own in (True, False): subprocess.Popen({child!r}, start_new_session=own)\n"
    program = f"{family}if rank == 0: time.sleep(0.2); sys.exit(3)\n{STUBBORN}"
    start = time.monotonic()
    code, _, errors = finish(launch("--workers=3", "--grace=1", "--", *python(program)))
    assert code == 3
    assert time.monotonic() - start < 10
    assert errors.splitlines() == [
        "workers: worker 0 ended with exit code 3; the others have 1 s to end",
        "workers: worker 1, worker 2: not ended 1 s after the first; killed",
    ]


def test_after_a_failure_stopped_workers_are_killed_at_once(launch):
    """They could not end within any grace; one that still works can."""
    program = "if rank == 0: time.sleep(0.3); sys.exit(3)\nif rank == 1: os.kill(os.getpid(), signal.SIGSTOP)\n"
    start = time.monotonic()
    code, output, errors = finish(launch("--workers=3", "--", *python(program + "time.sleep(1); print('saved')")))
    assert (code, output) == (3, "[2] saved\n")
    assert time.monotonic() - start < 10
    assert errors.splitlines() == [
        "workers: worker 0 ended with exit code 3; the others have 20 s to end",
        "[1] stopped by a signal while another worker has failed: killed",
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


def test_who_does_not_end_after_a_signal_is_killed_in_time(launch):
    """One that has saved has not failed; the exit code does not say that all have."""
    saves = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print('ready'); time.sleep(60)"
    program = f"if rank == 0: {saves}\n{STUBBORN}"
    process = launch("--workers=3", "--stop_timeout=1", "--max_restarts=3", "--", *python(program))
    wait_for_lines(process, "[0] ready", "[1] ready", "[2] ready")
    process.terminate()
    code, _, errors = finish(process, timeout=10)
    assert code == 128 + signal.SIGKILL
    assert errors == "workers: worker 1, worker 2: not ended 1 s after SIGTERM; killed\n"


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


WITHOUT_A_READER = (
    "def stop(*_): open(f'saved{rank}', 'w'); sys.exit(42)\nsignal.signal(signal.SIGTERM, stop)\n"
    "while True: print('line'); print('error', file=sys.stderr); time.sleep(0.01)"
)


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
@pytest.mark.parametrize("prefix", [[], ["nohup"]])
def test_without_a_reader_the_workers_are_told_to_end(launch, tmp_path, closed, prefix):
    """Of either stream, and where nohup keeps the signal of a lost terminal away."""
    process = launch("--workers=2", "--max_restarts=3", "--", *python(WITHOUT_A_READER), prefix=prefix)
    wait_for_lines(process, "[0] line", "[1] line")
    getattr(process, closed).close()
    setattr(process, closed, None)
    code, _, errors = finish(process)
    assert code == 42
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved0", "saved1"]
    assert closed == "stderr" or "workers: nobody reads the output any more; the workers are told to end\n" in errors


def test_without_a_reader_stubborn_workers_are_killed_in_time(launch):
    """As `nohup python -m launch.workers ... 2>&1 | head` has it: nothing can be said either."""
    program = STUBBORN.replace("time.sleep(9)", "print('line'); time.sleep(0.01)")
    arguments = ("--workers=2", "--stop_timeout=1", "--", *python(program))
    process = launch(*arguments, prefix=["nohup"], errors=subprocess.STDOUT)
    wait_for_lines(process, "[0] line", "[1] line")
    process.stdout.close()
    process.stdout = None
    assert process.wait(timeout=10) == 128 + signal.SIGKILL


@pytest.mark.ci_only
def test_a_reader_that_sleeps_does_not_keep_the_launcher(launch):
    """A pager, for example: workers wait for it, the launcher's end does not."""
    process = launch(
        "--workers=2", "--stop_timeout=1", "--", *python("while True: print('x' * 1000)"), errors=subprocess.STDOUT
    )
    wait_for_lines(process, f"[0] {'x' * 1000}", f"[1] {'x' * 1000}")
    time.sleep(0.5)  # the pipe is full
    process.terminate()
    assert process.wait(timeout=40) == 128 + signal.SIGTERM


def test_without_standard_output(launch):
    """Started as `>&-` does, the numbers of the streams are given to pipes, which must not get the lines."""
    code, output, errors = finish(
        launch("--workers=2", "--", *python("print('out')"), prefix=["sh", "-c", 'exec "$@" >&-', "sh"])
    )
    assert (code, output, errors) == (0, "", "")


@pytest.mark.parametrize(
    ("flags", "codes", "code", "said"),
    [
        ([], [1], 1, []),
        ([], [42], 42, []),
        (["--max_restarts=0"], [1], 1, ["no restart is left of 0"]),
        (["--max_restarts=2"], [1, 1, 0], 0, ["restart 1 of 2", "restart 2 of 2"]),
        pytest.param(
            *(["--max_restarts=1"], [3, 4], 4, ["restart 1 of 1", "no restart is left of 1"]), marks=pytest.mark.ci_only
        ),
        (["--max_restarts=1"], [2], 2, []),
        (["--max_restarts=1"], [42, 1, 0], 0, ["restart after a preemption in 1 s", "restart 1 of 1"]),
        pytest.param(
            *(["--max_restarts=0"], [42, 0], 0, ["restart after a preemption in 1 s"]), marks=pytest.mark.ci_only
        ),
    ],
)
def test_restarts(launch, flags, codes, code, said):
    """All together, as often as allowed, on other ports; preemptions are free but not without a pause."""
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
