"""Programs of the project in processes of their own that fork from one that has imported TensorFlow.

Importing TensorFlow takes a process some seconds. Where a test looks at what a program prints, at its exit code and at
what it leaves behind, and not at how it starts, `run` gives the same in a fraction of the time: the standard library's
fork server has imported TensorFlow and the trainer, and used neither.
"""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import traceback

_SECONDS = 300  # that a program may take
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tensorflow", "trainer.run.train", "input_pipelines.sources.catalogue"])


def run(module: str, *arguments: str, cwd: pathlib.Path, **variables: str) -> subprocess.CompletedProcess:
    """Runs `python -m MODULE ARGUMENTS` in `cwd` with further environment variables; returns exit code and output."""
    with tempfile.TemporaryDirectory() as name:
        streams = [os.path.join(name, stream) for stream in ("stdout", "stderr")]
        process = _PROCESSES.Process(target=_run, args=(module, arguments, str(cwd), os.environ | variables, streams))
        process.start()
        process.join(_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired([module, *arguments], _SECONDS)
        output, errors = (pathlib.Path(stream).read_text() for stream in streams)
    return subprocess.CompletedProcess([module, *arguments], process.exitcode, output, errors)


def _run(module: str, arguments: tuple[str, ...], cwd: str, variables: dict[str, str], streams: list[str]) -> None:
    for number, path in enumerate(streams, start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(variables)
    sys.path.insert(0, cwd)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
