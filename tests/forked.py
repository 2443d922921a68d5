"""Programs of the project in processes of their own that fork from one that has imported TensorFlow.

Importing TensorFlow takes a process some seconds. Where a test looks at what a program prints, at its exit code and at
what it leaves behind, and not at how it starts, `run` gives the same in a fraction of the time: the standard library's
fork server has imported TensorFlow and the trainer, and used neither. Runs end without their picture, which takes
longer than all steps of a small problem, unless `pictures` asks for it.
"""

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator

from trainer.output import plots

_ROOT = pathlib.Path(__file__).parents[1]
_SECONDS = 300  # that a program may take
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.preloaded"])


class Program:
    """A program that runs.

    Args:
      process: its process.
      command: module and arguments.
      streams: files with what it has printed, and its errors.
    """

    def __init__(
        self, process: multiprocessing.process.BaseProcess, command: list[str], streams: tuple[pathlib.Path, ...]
    ):
        self._process = process
        self._command = command
        self._streams = streams

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """True until it has ended."""
        return self._process.is_alive()

    def prints(self, words: str) -> bool:
        """Waits until it has printed these words; returns False where it has ended without."""
        return self._says(words, self._streams[0])

    def warns(self, words: str) -> bool:
        """The same of its errors."""
        return self._says(words, self._streams[1])

    def _says(self, words: str, stream: pathlib.Path) -> bool:
        while words not in stream.read_text():
            if not self.running:
                return words in stream.read_text()
            time.sleep(0.005)
        return True

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self._process.kill()

    def wait(self, seconds: float = _SECONDS) -> subprocess.CompletedProcess:
        """Returns exit code and output, once it has ended."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._command, seconds)
        output, errors = (stream.read_text() for stream in self._streams)
        return subprocess.CompletedProcess(self._command, self._process.exitcode, output, errors)


@contextlib.contextmanager
def started(
    module: str, *arguments: str, cwd: pathlib.Path, pictures: bool = False, **variables: str
) -> Iterator[Program]:
    """Starts `python -m MODULE ARGUMENTS` in `cwd` with further environment variables; kills it where it is left."""
    with tempfile.TemporaryDirectory() as name:
        streams = tuple(pathlib.Path(name, stream) for stream in ("stdout", "stderr"))
        for stream in streams:
            stream.touch()
        given = (module, arguments, str(cwd), os.environ | variables, [str(stream) for stream in streams], pictures)
        process = _PROCESSES.Process(target=_run, args=given)
        with contextlib.chdir(_ROOT):  # the server, once started, finds `tests` from the folder that it is started in
            multiprocessing.forkserver.ensure_running()
        process.start()
        try:
            yield Program(process, [module, *arguments], streams)
        finally:
            process.kill()
            process.join()


def run(
    module: str, *arguments: str, cwd: pathlib.Path, pictures: bool = False, **variables: str
) -> subprocess.CompletedProcess:
    """Runs `python -m MODULE ARGUMENTS` in `cwd` with further environment variables; returns exit code and output."""
    with started(module, *arguments, cwd=cwd, pictures=pictures, **variables) as program:
        return program.wait()


def _run(
    module: str,
    arguments: tuple[str, ...],
    cwd: str,
    variables: dict[str, str],
    streams: list[str],
    pictures: bool,
) -> None:
    for number, path in enumerate(streams, start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(variables)
    sys.path.insert(0, cwd)
    sys.argv = [module, *arguments]
    if not pictures:
        plots.save_curves = lambda *_, **__: None
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
