"""The workers by the variables that launchers set; tests/launch/test_slurm.py has the tests with a real Slurm."""

import json

import pytest

from trainer.common.errors import ConfigError
from trainer.distributed import cluster

KUBERNETES = {
    "JOB_COMPLETION_INDEX": "2",
    "TRAINER_WORKERS": "12",
    "TRAINER_SERVICE": "run",
    "TRAINER_PORT": "2222",
    "HOSTNAME": "run-workers-0-2",
}
SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "n[8-10]",
    "SLURM_STEP_TASKS_PER_NODE": "1(x3)",
    "SLURM_PROCID": "0",
    "SLURM_NODEID": "0",
}


def _tf_config(jobs: object, kind: str = "worker", index: object = 0) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})}


@pytest.mark.parametrize(
    ("environment", "addresses", "rank"),
    [
        (_tf_config({"worker": ["a:1"]}), ("a:1",), 0),
        (_tf_config({"worker": ["n9:1", "n10:65535"]}, index=1), ("n9:1", "n10:65535"), 1),
        (_tf_config({"worker": ["[::1]:1", "10.0.0.1:2"]}, index="1"), ("[::1]:1", "10.0.0.1:2"), 1),
        (_tf_config({"worker": ["b:1", "c:1"], "chief": ["a:1"]}, "chief"), ("a:1", "b:1", "c:1"), 0),
        (_tf_config({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, index=1), ("a:1", "b:1", "c:1"), 2),
    ],
)
def test_tf_config(environment, addresses, rank):
    assert cluster.from_environment(environment) == cluster.Cluster(addresses, rank, "TF_CONFIG")


def test_the_launcher_that_comes_first_counts():
    tf_config = _tf_config({"worker": ["a:1"]})
    assert cluster.from_environment(SLURM | KUBERNETES | tf_config).launcher == "TF_CONFIG"
    assert cluster.from_environment(KUBERNETES | {"TF_CONFIG": " "}).launcher == "Kubernetes"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "must be JSON such as"),
        ("[]", "must be JSON such as"),
        ('"text"', "must be JSON such as"),
        ("{}", "(KeyError: 'cluster')"),
        ('{"cluster": {"worker": ["a:1"]}}', "(KeyError: 'task')"),
        (_tf_config({"worker": ["a:1"]}, index=None)["TF_CONFIG"], "must be JSON such as"),
        (_tf_config({"worker": ["a:1"]}, index="x")["TF_CONFIG"], "must be JSON such as"),
        (_tf_config([1])["TF_CONFIG"], "must be JSON such as"),
        (_tf_config({"worker": 3})["TF_CONFIG"], "must be JSON such as"),
        (_tf_config({"worker": None})["TF_CONFIG"], "must be JSON such as"),
        (_tf_config({"worker": ["a:1"]}, ["worker"])["TF_CONFIG"], "0 is not in its cluster"),
        (
            _tf_config({"worker": ["a:1"]}, index=float("inf"))["TF_CONFIG"],
            "it holds Infinity, which is no finite number",
        ),
        (_tf_config({"worker": ["a:1"]}, index=float("nan"))["TF_CONFIG"], "it holds NaN, which is no finite number"),
        (_tf_config({"worker": ["a:1"]}, index=0.0)["TF_CONFIG"], "the index is no whole number"),
        (_tf_config({"worker": ["a:1"]}, index=False)["TF_CONFIG"], "the index is no whole number"),
        (_tf_config({"worker": ["a:1"]}, index=[0])["TF_CONFIG"], "the index is no whole number"),
        (_tf_config({"worker": ["a:1"]}, index=10**400)["TF_CONFIG"], "is not in its cluster"),
        (_tf_config({"worker": ["a:1"]}, index="9" * 5000)["TF_CONFIG"], "the index is no whole number"),
        (_tf_config({"worker": ["a:1", None]})["TF_CONFIG"], "None must be a host and a port, host:port"),
        (_tf_config({"worker": [["a:1"]]})["TF_CONFIG"], "['a:1'] must be a host and a port, host:port"),
        (_tf_config({"worker": ["a:\u0661"]})["TF_CONFIG"], "must be a host and a port, host:port"),
        ('{"cluster": {"worker": ["a:1"]}, "cluster": {}}', "it has the key 'cluster' twice"),
        ("[" * 5000 + "]" * 5000, "it is nested more than 100 levels deep"),
        (_tf_config({"worker": ["a:1"], "chief": 1}, "worker")["TF_CONFIG"], "must be JSON such as"),
        (_tf_config({"worker": ["a:1"], "ps": ["b:1"]})["TF_CONFIG"], "has the job 'ps'; every process is a worker"),
        (_tf_config({"worker": ["a:1"]}, index=1)["TF_CONFIG"], "its task 'worker' 1 is not in its cluster"),
        (_tf_config({"worker": ["a:1"]}, index=-1)["TF_CONFIG"], "its task 'worker' -1 is not in its cluster"),
        (_tf_config({"worker": ["a:1"]}, "chief")["TF_CONFIG"], "its task 'chief' 0 is not in its cluster"),
        (_tf_config({"chief": ["a:1", "b:1"]}, "chief")["TF_CONFIG"], "has more than one chief"),
        (_tf_config({"worker": ["a:1", "a:1"]})["TF_CONFIG"], "names an address twice"),
        (_tf_config({"worker": ["a"]})["TF_CONFIG"], "'a' must be a host and a port, host:port"),
        (_tf_config({"worker": ["a:0"]})["TF_CONFIG"], "'a:0' must be a host and a port, host:port"),
        (_tf_config({"worker": ["a:65536"]})["TF_CONFIG"], "'a:65536' must be a host and a port, host:port"),
        (_tf_config({"worker": ["grpc://a:1"]})["TF_CONFIG"], "'grpc://a:1' must be a host and a port, host:port"),
        (_tf_config({"worker": [1]})["TF_CONFIG"], "1 must be a host and a port, host:port"),
    ],
)
def test_a_bad_tf_config_is_one_line(text, reason):
    _assert_refused({"TF_CONFIG": text}, "TF_CONFIG=", reason)


def test_kubernetes():
    """A pod's name is made of its JobSet's, its job's and its index, and the names may have dashes."""
    expected = tuple(f"run-workers-0-{index}.run:2222" for index in range(12))
    assert cluster.from_environment(KUBERNETES) == cluster.Cluster(expected, 2, "Kubernetes")


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"TRAINER_WORKERS": None}, "TRAINER_WORKERS: ", "is not set; launch/kubernetes sets it"),
        ({"TRAINER_PORT": None}, "TRAINER_PORT: ", "is not set; launch/kubernetes sets it"),
        ({"TRAINER_SERVICE": None}, "TRAINER_SERVICE: ", "is not set; launch/kubernetes sets it"),
        ({"HOSTNAME": None}, "HOSTNAME: ", "is not set; every pod has it"),
        ({"JOB_COMPLETION_INDEX": ""}, "JOB_COMPLETION_INDEX=''", "must be a whole number, 0 or more"),
        ({"TRAINER_WORKERS": "two"}, "TRAINER_WORKERS='two'", "must be a whole number, 0 or more"),
        ({"TRAINER_PORT": "-1"}, "TRAINER_PORT='-1'", "must be a whole number, 0 or more"),
        ({"TRAINER_PORT": "0"}, "TRAINER_SERVICE='run'", "'run-workers-0-0.run:0' must be a host and a port"),
        ({"TRAINER_SERVICE": "a b"}, "TRAINER_SERVICE='a b'", "must be a host and a port"),
        ({"TRAINER_WORKERS": "2"}, "TRAINER_WORKERS=2", "must be more than this pod's JOB_COMPLETION_INDEX, 2"),
        ({"HOSTNAME": "run-workers-0-1"}, "HOSTNAME='run-workers-0-1'", "must end with -2, this pod's JOB_COMPLETION"),
        ({"HOSTNAME": "2"}, "HOSTNAME='2'", "must end with -2, this pod's JOB_COMPLETION_INDEX"),
    ],
)
def test_a_bad_kubernetes_job_is_one_line(changes, field, reason):
    environment = {name: value for name, value in (KUBERNETES | changes).items() if value is not None}
    _assert_refused(environment, field, reason)


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"SLURM_STEP_TASKS_PER_NODE": None}, "SLURM_STEP_TASKS_PER_NODE: ", "is not set; srun sets it"),
        ({"SLURM_STEP_TASKS_PER_NODE": "x3"}, "SLURM_STEP_TASKS_PER_NODE='x3'", "must be numbers such as 2(x3),1"),
        ({"SLURM_PROCID": None}, "SLURM_PROCID: ", "is not set; srun sets it"),
        ({"SLURM_NODEID": "n8"}, "SLURM_NODEID='n8'", "must be a whole number, 0 or more"),
        ({}, "SLURM_STEP_NODELIST='n[8-10]'", "scontrol show hostnames fails: [Errno 2] No such file or directory"),
    ],
)
def test_a_bad_slurm_step_is_one_line(changes, field, reason, tmp_path, monkeypatch):
    """Slurm's programs are not on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    environment = {name: value for name, value in (SLURM | changes).items() if value is not None}
    _assert_refused(environment, field, reason)


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, "needs TF_CONFIG, a Slurm step or an indexed Kubernetes job; on one machine, python -m launch.workers"),
        ({"TF_CONFIG": " "}, "needs TF_CONFIG, a Slurm step or an indexed Kubernetes job"),
        ({"SLURM_JOB_ID": "7"}, "in a Slurm job is for tasks: start the program with srun"),
    ],
)
def test_no_launcher_is_one_line(environment, reason):
    _assert_refused(environment, "--strategy='multi_worker'", reason)


def _assert_refused(environment: dict[str, str], field: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cluster.from_environment(environment)
    message = str(caught.value)
    assert message.startswith(field)
    assert reason in message
    assert "\n" not in message
