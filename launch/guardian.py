"""Starts one worker and ends with it: python launch/guardian.py; the launcher speaks to it through its standard input.

The first line of the input is JSON: the `command`, the `directory`, what is added to the `environment`, and the
seconds of `silence` (null: any) after which the launcher counts as lost. Each further line is the name of a signal for
the command, TERM for example, or empty, or END_IF_STOPPED, which kills a command that SIGSTOP has stopped. At the end
of the input, when the launcher is gone, or after a silence, the command's process group is killed. The exit code is the
command's, 128 + n where signal n killed it, 2 where it cannot be started.

The same file serves local workers and, sent over ssh, remote ones: it needs nothing but Python 3.7.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import threading

END_IF_STOPPED = "END_IF_STOPPED"
_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_LINUX = sys.platform == "linux"
_prctl = ctypes.CDLL(None).prctl if _LINUX else None


def main() -> int:
    """Runs the command that the input asks for; returns the exit code."""
    control = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 (unbuffered, so that select sees every line)
    line = control.readline()
    if not line:
        return 0  # the launcher is gone already
    request = json.loads(line.decode())
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        # systemd signals every process; the command needs its time. Not ignored, which the command would inherit.
        signal.signal(number, lambda number, frame: None)
    adopt_orphans()
    guardian = os.getpid()

    def die_with_guardian() -> None:
        if _LINUX:
            _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != guardian:
                os._exit(1)

    try:
        process = subprocess.Popen(
            request["command"],
            cwd=request["directory"],
            env={**os.environ, **request["environment"]},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_guardian,
        )
    except OSError as error:
        print(f"error: {error.filename or request['command'][0]}: {error.strerror}", file=sys.stderr)
        return 2
    threading.Thread(target=_obey, args=(control, process, request["silence"]), daemon=True).start()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    _kill_group(process)  # until it is waited for, no other group can have its number
    code = process.wait()
    end_children()
    return code if code >= 0 else 128 - code


def adopt_orphans() -> None:
    """Makes this process the parent of its descendants whose own parents end, so that `end_children` meets them."""
    if _LINUX:
        _prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_children() -> None:
    """Kills this process's children, and theirs, until none is left."""
    while True:
        for child in _children():
            os.kill(child, signal.SIGKILL)  # a child stays, as a zombie at least, until it is waited for
        try:
            os.wait()
        except ChildProcessError:
            return


def _children() -> list:
    children = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == os.getpid():
            children.append(int(process.name))
    return children


def _obey(control, process: subprocess.Popen, silence) -> None:
    while True:
        heard = select.select([control], [], [], silence)[0]
        line = control.readline() if heard else b""
        if not line:
            _kill_group(process)
            return
        name = line.decode().strip()
        if name == END_IF_STOPPED:
            if _is_stopped(process):
                print("stopped by a signal while another worker has failed: killed", file=sys.stderr, flush=True)
                _kill_group(process)
        elif name:
            process.send_signal(signal.Signals["SIG" + name])


def _is_stopped(process: subprocess.Popen) -> bool:
    with contextlib.suppress(OSError):  # it has ended
        return os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
    return False


def _kill_group(process: subprocess.Popen) -> None:
    if process.returncode is None:
        with contextlib.suppress(OSError):  # nobody is left in it
            os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # the thread that reads the input would have to be waited for
