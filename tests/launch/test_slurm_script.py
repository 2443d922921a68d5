"""launch/slurm.sbatch with a stand-in for Slurm's commands: GPUs of each task, and files that hold commands."""

import os
import shutil
import subprocess

import pytest

_SRUN = """\
env | grep -E '^SLURM_(GPUS|TRES)_PER_TASK|^SLURM_GPU_BIND' >by_task
while [ "$1" != bash ]; do shift; done
for SLURM_LOCALID in 0 1; do
  export SLURM_LOCALID
  "$@" || code=$?
done
exit "${code:-0}"
"""
_PYTHON = 'printf "%s|%s\\n" "${CUDA_VISIBLE_DEVICES-none}" "$*"\nexit "${CODE:-0}"\n'
_JOB = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_JOB_NUM_NODES": "2", "SLURM_TASKS_PER_NODE": "1(x2)"}


@pytest.fixture
def submit(tmp_path, root):
    """Runs the script in a folder of its own, with variables as Slurm sets them."""
    shutil.copytree(root / "launch", tmp_path / "launch", ignore=shutil.ignore_patterns("__pycache__", "kubernetes"))
    shutil.copy(root / "requirements.lock", tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    programs = {"bin/srun": _SRUN, "bin/scontrol": "", "bin/scancel": "", "bin/nvidia-smi": "exit 1\n"}
    for name, text in {**programs, ".venv/bin/python": _PYTHON}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}")
        (tmp_path / name).chmod(0o755)
    installed = subprocess.run(["cksum", "requirements.lock"], cwd=tmp_path, capture_output=True, check=True)
    (tmp_path / ".venv" / "installed").write_bytes(installed.stdout)

    def run(*flags: str, **variables: str) -> subprocess.CompletedProcess:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "CUDA_"))}
        environment = {**kept, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", **_JOB, **variables}
        command = ["bash", "launch/slurm.sbatch", *flags]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    return run


@pytest.mark.parametrize(
    ("tasks", "per_task", "visible", "expected"),
    [
        ("2(x3),1", None, "0,1,2,3", ["0,1", "2,3"]),
        ("2", "1", "4,6", ["4", "6"]),
        ("2", "a100:2", "0,1,2,3", ["0,1", "2,3"]),
        ("1(x2)", None, "0,1,2,3", 2 * ["0,1,2,3"]),
        ("2", "1", "5", 2 * ["5"]),  # a site that binds tasks nevertheless
        ("2", None, None, 2 * ["none"]),
    ],
)
def test_every_task_has_its_own_gpus(submit, tmp_path, tasks, per_task, visible, expected):
    gpus = (
        {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible, "SLURM_GPUS_ON_NODE": str(len(visible) // 2 + 1)}
    )
    asked = {} if per_task is None else {"SLURM_GPUS_PER_TASK": per_task}
    result = submit(SLURM_TASKS_PER_NODE=tasks, SLURM_CPUS_ON_NODE="4", **gpus, **asked)
    assert result.returncode == 0, result.stderr
    assert [line.partition("|")[0] for line in result.stdout.splitlines()] == expected
    assert (tmp_path / "by_task").read_text() == ""  # else Slurm would hide each task's GPUs from the others
    few = visible is not None and "," in visible
    assert ("4 CPUs may be too few to feed" in result.stderr) is few


def test_gpus_that_tasks_cannot_share(submit, tmp_path):
    result = submit(SLURM_TASKS_PER_NODE="2", SLURM_GPUS_ON_NODE="3")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: --ntasks-per-node=2: must divide the number of GPUs of a node, 3\n"
    assert not (tmp_path / "by_task").exists()


def test_nothing_that_a_file_holds_is_run(submit, tmp_path):
    """Not the count of failures, whose brackets bash would evaluate as arithmetic, and no line of a sweep."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "slurm_7.failures").write_text("a[$(touch ran)]\n")
    result = submit(CODE="1")
    assert result.returncode == 1
    assert "Exit code 1; job 7 is requeued, 1 of 3." in result.stdout
    assert (tmp_path / "runs" / "slurm_7.failures").read_text() == "1\n"
    (tmp_path / "-sweep").write_text('--name=$(touch\\ ran) "`touch ran`" --more=$((a[$(touch\\ ran)]))\n')
    result = submit("--sweep=-sweep", SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID="1")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0].endswith("--name=$(touch ran) `touch ran` --more=$((a[$(touch ran)]))")
    assert not (tmp_path / "ran").exists()
