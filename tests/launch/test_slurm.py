"""launch/slurm.sbatch under a real Slurm with two nodes on this machine."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from tests.launch.slurm import cluster as slurm
from tests.launch.small import SLOW, SMALL
from tests.properties.test_resume import results
from tests.readmes import SLURM

pytestmark = pytest.mark.ci_only
STARTED, ENDED = 240, 300  # seconds until a job has trained a while, until one is over
STEPS = 150
EXACT = [f"--config.steps={STEPS}", "--config.precision=float64", "--config.report_every=10"]
EXACT += ["--config.steps_per_loop=5", "--config.checkpoint_every=100", *SMALL, SLOW]


@pytest.fixture(scope="module")
def project(slurm_project):
    return slurm_project


def _submit(cluster: slurm.Cluster, project: pathlib.Path, *flags: str, options: tuple[str, ...] = ()) -> str:
    return cluster.submit(project, *options, "launch/slurm.sbatch", *flags)


def _printed(project: pathlib.Path, job: str) -> str:
    with contextlib.suppress(FileNotFoundError):
        return (project / f"slurm-{job}.out").read_text()
    return ""


def _reported(project: pathlib.Path, job: str) -> int:
    """The step of the newest report of a job's run."""
    with contextlib.suppress(FileNotFoundError):
        if lines := (project / "runs" / f"slurm_{job}" / "metrics.jsonl").read_text().splitlines():
            return json.loads(lines[-1])["step"]
    return 0


def _worker(job: str, rank: int) -> tuple[int, dict[str, str]]:
    """Process id and environment of a job's worker."""
    sought = {"SLURM_JOB_ID": job, "SLURM_STEP_ID": "0", "SLURM_PROCID": str(rank)}
    for process in pathlib.Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                if (process / "cmdline").read_text().split("\0")[1:3] == ["-m", "trainer.main"]:
                    lines = (process / "environ").read_text(errors="replace").split("\0")
                    environment = dict(line.split("=", 1) for line in lines if "=" in line)
                    if sought.items() <= environment.items():
                        return int(process.name), environment
    raise AssertionError(f"job {job} has no worker {rank}")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, root):
    """The same run on two workers without Slurm."""
    path = tmp_path_factory.mktemp("uninterrupted") / "run"
    trainer = ["python", "-m", "trainer.main", "--strategy=multi_worker", f"--workdir={path}", *EXACT]
    command = [sys.executable, "-m", "launch.workers", "--workers=2", "--", *trainer]
    path_variable = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(command, cwd=root, env=os.environ | {"PATH": path_variable}, check=True, timeout=ENDED)
    return results(path, STEPS)


def test_preempted_and_killed_it_ends_as_if_it_had_not_been(cluster, project, uninterrupted):
    """Two nodes: a signal, and later a worker's sudden end, each give a start from where the run was saved."""
    job = _submit(cluster, project, *EXACT, options=("--nodes=2", "--gpus-per-node=2"))
    slurm.wait_until(lambda: _reported(project, job), "the first report", STARTED)
    _, environment = _worker(job, 1)
    assert environment["CUDA_VISIBLE_DEVICES"] == "0,1"
    cluster.call("scancel", "--signal=USR1", f"{job}.0")
    slurm.wait_until(lambda: cluster.job(job)["Restarts"] == "1", "the first requeue", STARTED)
    saved = int(re.search(r"stopped by SIGUSR1; step (\d+) is saved", _printed(project, job))[1])
    assert 0 < saved < STEPS
    assert f"The run is saved; job {job} is requeued" in _printed(project, job)

    slurm.wait_until(lambda: _reported(project, job) > saved + 20, "more reports", STARTED)
    assert f"from step {saved} of {STEPS} steps" in _printed(project, job)
    process, _ = _worker(job, 1)
    os.kill(process, signal.SIGKILL)
    ended = cluster.wait_for_end(job, ENDED)
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("COMPLETED", "0:0", "2")
    printed = _printed(project, job)
    assert re.search(r"error: .*lost worker 1 \(127\.0\.0\.10:\d+\)", printed)
    assert f"Exit code 137; job {job} is requeued, 1 of 3." in printed
    assert not (project / "runs" / f"slurm_{job}.failures").exists()
    assert results(project / "runs" / f"slurm_{job}", STEPS) == uninterrupted


def test_the_time_limit_saves_and_requeues(cluster, project):
    """Slurm itself signals before the limit; a job that is cancelled is not requeued."""
    job = _submit(cluster, project, *EXACT, "--config.steps=1000000", options=("--time=60",))
    slurm.wait_until(lambda: _reported(project, job), "the first report", STARTED)
    # USR1@180 is due at once; Slurm looks every 30 seconds, and 30 seconds ahead.
    cluster.call("scontrol", "update", f"JobId={job}", "TimeLimit=3")
    slurm.wait_until(lambda: cluster.job(job)["Restarts"] == "1", "the requeue", 60)
    assert "stopped by SIGUSR1" in _printed(project, job)
    cluster.call("scancel", job)
    assert cluster.wait_for_end(job, 60)["JobState"] == "CANCELLED"
    assert cluster.job(job)["Restarts"] == "1"


def test_a_bad_configuration_is_not_tried_again(cluster, project):
    job = _submit(cluster, project, "--config.batch_size=0", options=("--nodes=2",))
    ended = cluster.wait_for_end(job, ENDED)
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "2:0", "0")
    assert "error: batch_size=0: " in _printed(project, job)
    assert list((project / "runs").glob(f"slurm_{job}*")) == []


def test_what_one_worker_refuses_ends_all(cluster, project):
    """Only the chief looks at the workdir; the other would wait for it."""
    workdir = project / "runs" / "other"
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text("{}")
    job = _submit(cluster, project, "--workdir=runs/other", options=("--nodes=2",))
    ended = cluster.wait_for_end(job, 90)
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "2:0", "0")
    assert "0: error: --workdir='runs/other': " in _printed(project, job)
    assert list((project / "runs").glob(f"slurm_{job}*")) == []


def test_failures_are_counted(cluster, project):
    """A run that fails every time: the second failure is one too many."""
    (project / "fails.py").write_text("import os\n\n\ndef get_config():\n    os._exit(1)\n")
    job = _submit(cluster, project, "--max_restarts=1", "--config=fails.py")
    ended = cluster.wait_for_end(job, ENDED)
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "1:0", "1")
    printed = _printed(project, job)
    assert f"Exit code 1; job {job} is requeued, 1 of 1." in printed
    assert "error: exit code 1; --max_restarts=1 is used up" in printed
    assert not (project / "runs" / f"slurm_{job}.failures").exists()


def test_an_array_is_a_sweep(cluster, project):
    """Every task has a run of its own, with the flags of its line after the common ones."""
    sweep = "--combine=pcgrad --config.seed=1\n--combine=weighted '--config.seed=2' --config.losses.ink.weight=\"2\"\n"
    (project / "sweep.txt").write_text(sweep)
    common = (*SMALL, "--config.steps=20", "--config.seed=0")
    job = _submit(cluster, project, "--sweep=sweep.txt", *common, options=("--array=1-2",))
    found = {}
    for task in ("1", "2"):
        assert cluster.wait_for_end(f"{job}_{task}", ENDED)["JobState"] == "COMPLETED", _printed(project, job)
        config = json.loads((project / "runs" / f"slurm_{job}_{task}" / "config.json").read_text())
        found[task] = (config["combine"]["name"], config["seed"], config["losses"]["ink"]["weight"])
    assert found == {"1": ("pcgrad", 1, 10.0), "2": ("weighted", 2, 2.0)}


def test_a_worker_for_every_gpu(cluster, project):
    options = ("--ntasks-per-node=2", "--gpus-per-task=1", "--cpus-per-task=2")
    job = _submit(cluster, project, *EXACT, "--config.steps=1000000", options=options)
    slurm.wait_until(lambda: _reported(project, job), "the first report", STARTED)
    assert [_worker(job, rank)[1]["CUDA_VISIBLE_DEVICES"] for rank in (0, 1)] == ["0", "1"]
    cluster.call("scancel", "--signal=INT", f"{job}.0")
    ended = cluster.wait_for_end(job, ENDED)
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "130:0", "0")


REFUSED = [
    (["--array=1-2"], [], "--array: needs --sweep=FILE, in which line K has the flags of task K, or --sweep"),
    ([], ["--sweep"], "--sweep: needs a job array, for example sbatch --array=1-5"),
    (["--array=1"], ["--sweep"], "--sweep: needs --workdir=FOLDER, that of the whole comparison"),
    (
        ["--array=1", "--nodes=2"],
        ["--sweep", "--workdir=runs/all"],
        "--sweep: trains a cell on one node, with one task",
    ),
    ([], ["--sweep=two.txt"], "--sweep=two.txt: needs a job array, for example sbatch --array=1-6"),
    (["--array=1"], ["--sweep=none.txt"], "--sweep=none.txt: cannot be read in {project}"),
    (["--array=0"], ["--sweep=two.txt"], "--array=0: two.txt has the lines 1 to 2"),
    (["--array=3"], ["--sweep=two.txt"], "--array=3: two.txt has the lines 1 to 2"),
    (["--array=2"], ["--sweep=two.txt"], "--sweep=two.txt: line 2 cannot be read: --workdir='"),
    ([], ["--max_restarts=-1"], "--max_restarts=-1: must be a whole number, 0 or more"),
    (["--chdir=/"], [], "/: submit it in the project's folder: sbatch launch/slurm.sbatch"),
]


@pytest.fixture(scope="module")
def refused(cluster, project):
    """The jobs of `REFUSED`, submitted at once, and where their output is."""
    (project / "two.txt").write_text("--config.seed=1\n--workdir='")  # without an end of line
    jobs = []
    for index, (options, flags, _) in enumerate(REFUSED):
        output = project / f"refused_{index}.out"
        job = _submit(cluster, project, *flags, options=(*options, f"--output={output}"))
        task = next((f"_{option[8]}" for option in options if option.startswith("--array=")), "")
        jobs.append((job + task, output))
    return jobs


@pytest.mark.parametrize("index", range(len(REFUSED)), ids=[message for *_, message in REFUSED])
def test_what_the_script_refuses(cluster, project, refused, index):
    """One line and exit code 2, before anything is set up."""
    job, output = refused[index]
    ended = cluster.wait_for_end(job, 60)
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "2:0", "0")
    *_, message = REFUSED[index]
    assert f"error: {message.format(project=project)}" in output.read_text().splitlines()


ADDRESSES = "from trainer.distributed import cluster; import os; print(*cluster.from_environment(os.environ).addresses)"
RANK = "from trainer.distributed import cluster; import os; print(cluster.from_environment(os.environ).rank)"


@pytest.mark.parametrize(
    ("options", "hosts"),
    [
        (["--nodes=1"], ["127.0.0.9"]),
        (["--nodes=2", "--ntasks-per-node=1"], ["127.0.0.9", "127.0.0.10"]),
        (["--nodes=2", "--ntasks-per-node=2"], ["127.0.0.9", "127.0.0.9", "127.0.0.10", "127.0.0.10"]),
        (["--nodes=2", "--ntasks=3"], ["127.0.0.9", "127.0.0.9", "127.0.0.10"]),
    ],
)
def test_the_workers_are_slurms_tasks(cluster, root, options, hosts):
    """In Slurm's order of nodes, which is not that of their names, each at a port of its own."""
    step = ["srun", "--distribution=block", "--label", *options, sys.executable, "-c"]
    lines = [line.split() for line in cluster.call(*step, ADDRESSES, cwd=root).splitlines()]
    assert len(lines) == len(hosts)
    assert len({tuple(addresses) for _, *addresses in lines}) == 1
    addresses = [address.rsplit(":", 1) for address in lines[0][1:]]
    assert [host for host, _ in addresses] == hosts
    ports = [int(port) for _, port in addresses]
    assert len(set(ports)) == len(ports)
    assert 12000 <= min(ports) <= max(ports) < 32768  # below the ports of outgoing connections
    for line in cluster.call(*step, RANK, cwd=root).splitlines():
        label, rank = line.split(": ")
        assert label.strip() == rank


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        (
            ["--ntasks=4", "--ntasks-per-node=2", "--distribution=cyclic"],
            [],
            "SLURM_NODEID=1: is not where srun --distribution=block, which is needed, puts rank 1",
        ),
        (
            ["--ntasks=2"],
            ["SLURM_STEP_TASKS_PER_NODE=1(x3)"],
            "SLURM_STEP_NODELIST='127.0.0.[9-10]': names 2 nodes, SLURM_STEP_TASKS_PER_NODE has 3",
        ),
        (
            ["--ntasks=2"],
            ["SLURM_STEP_TASKS_PER_NODE=65(x2)"],
            "SLURM_STEP_TASKS_PER_NODE=65: must be at most 64, or one per GPU",
        ),
    ],
)
def test_steps_that_cannot_be_used(cluster, root, options, changes, message):
    step = ["srun", "--nodes=2", *options, "env", *changes, sys.executable, "-c", RANK]
    result = subprocess.run(step, cwd=root, env=cluster.environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert f"trainer.common.errors.ConfigError: {message}" in result.stderr


def test_the_readmes_commands(cluster, project):
    """As they are written, except for the number of steps and the size of the model."""
    alone, write, sweep, *_ = SLURM
    subprocess.run(["bash", "-c", write], cwd=project, check=True)
    lines = (project / "sweep.txt").read_text().splitlines()
    assert len(set(lines)) == 6
    few = (*SMALL, "--config.steps=20")
    job = cluster.submit(project, *alone.split()[1:], *few)
    array = cluster.submit(project, *sweep.split()[1:], *few)
    for number in (job, *(f"{array}_{task}" for task in range(1, 7))):
        ended = cluster.wait_for_end(number, 2 * ENDED)
        assert (ended["JobState"], ended["ExitCode"]) == ("COMPLETED", "0:0"), _printed(project, number)
        assert _reported(project, number) == 20
    assert "2 CPU replicas of 2 workers" in _printed(project, job)
    for task, line in enumerate(lines, start=1):
        config = json.loads((project / "runs" / f"slurm_{array}_{task}" / "config.json").read_text())
        assert line == f"--combine={config['combine']['name']} --config.seed={config['seed']}"
