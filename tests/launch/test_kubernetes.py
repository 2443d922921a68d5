"""launch/kubernetes: manifests that the API accepts, that agree with one another and with the trainer, and an image."""

import copy
import fnmatch
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence

import kubernetes_validate
import pytest
import yaml

from tests.launch import image
from trainer.common.errors import ConfigError
from trainer.distributed import cluster, signals

OLDEST, NEWEST = "1.31", "1.37"  # podFailurePolicy is stable since the first; the second is the newest schema
FILES = ("service.yaml", "network_policy.yaml", "workdir.yaml", "jobset.yaml")
JOB = "spec replicatedJobs 0 template spec"
POD = f"{JOB} template spec"
INSTANCE = "app.kubernetes.io/instance"

# Of every value in values.yaml: what it is changed to, and where that must be found, by the object's kind and name.
VALUES = {
    "name": (
        "my-run",
        [
            ("Service", "metadata name"),
            ("Service", f"metadata labels {INSTANCE}"),
            ("Service", f"spec selector {INSTANCE}"),
            ("JobSet", "metadata name"),
            ("JobSet", f"metadata labels {INSTANCE}"),
            ("JobSet", f"{JOB} template metadata labels {INSTANCE}"),
            ("JobSet", f"{POD} subdomain"),
            ("JobSet", f"{POD} containers 0 env 1 value"),
            ("JobSet", f"{POD} volumes 0 persistentVolumeClaim claimName"),
            ("PersistentVolumeClaim", "metadata name"),
            ("PersistentVolumeClaim", f"metadata labels {INSTANCE}"),
            ("NetworkPolicy", "metadata name"),
            ("NetworkPolicy", f"metadata labels {INSTANCE}"),
            ("NetworkPolicy", f"spec podSelector matchLabels {INSTANCE}"),
            ("NetworkPolicy", f"spec ingress 0 from 0 podSelector matchLabels {INSTANCE}"),
            ("NetworkPolicy", f"spec egress 0 to 0 podSelector matchLabels {INSTANCE}"),
            ("NetworkPolicy egress", "metadata name"),
            ("NetworkPolicy egress", f"metadata labels {INSTANCE}"),
            ("NetworkPolicy egress", f"spec podSelector matchLabels {INSTANCE}"),
        ],
    ),
    "image": ("registry.example.org:5000/trainer@sha256:0", [("JobSet", f"{POD} containers 0 image")]),
    "workers": (
        7,
        [
            ("JobSet", f"{JOB} completions"),
            ("JobSet", f"{JOB} parallelism"),
            ("JobSet", f"{POD} containers 0 env 0 value"),
        ],
    ),
    "arguments": (["--config=configs/qm9.py"], [("JobSet", f"{POD} containers 0 args")]),
    "resources": (
        {"limits": {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": 4}},
        [("JobSet", f"{POD} containers 0 resources")],
    ),
    "shared_memory": ("8Gi", [("JobSet", f"{POD} volumes 3 emptyDir sizeLimit")]),
    "node_selector": ({"gpu": "h200"}, [("JobSet", f"{POD} nodeSelector")]),
    "tolerations": ([{"key": "gpus", "operator": "Exists"}], [("JobSet", f"{POD} tolerations")]),
    "workdir": (
        {"accessModes": ["ReadWriteMany"], "storageClassName": "nfs", "resources": {"requests": {"storage": "1Ti"}}},
        [("PersistentVolumeClaim", "spec")],
    ),
    "data": (
        {"name": "data", "persistentVolumeClaim": {"claimName": "datasets", "readOnly": True}},
        [("JobSet", f"{POD} volumes 1")],
    ),
    "egress": ([{"ports": [{"port": 443, "protocol": "TCP"}]}], [("NetworkPolicy egress", "spec egress")]),
    "restarts": (0, [("JobSet", "spec failurePolicy maxRestarts")]),
    "grace": (600, [("JobSet", f"{POD} terminationGracePeriodSeconds")]),
}


@pytest.fixture(scope="module")
def folder(root) -> pathlib.Path:
    return root / "launch" / "kubernetes"


@pytest.fixture(scope="module")
def written(folder) -> dict[str, dict]:
    """The objects as they are in the files."""
    return _by_name(document for file in FILES for document in yaml.safe_load_all((folder / file).read_text()))


@pytest.fixture(scope="module")
def pod(written) -> dict:
    return written["JobSet"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]


@pytest.fixture(scope="module")
def container(pod) -> dict:
    (container,) = pod["spec"]["containers"]
    return container


def _by_name(documents) -> dict[str, dict]:
    """Objects by their kind, and by a second word where their name has a second part that tells them apart."""
    objects = {}
    for each in documents:
        second = " egress" if each["metadata"]["name"].endswith("-egress") else ""
        objects[each["kind"] + second] = each
    return objects


def _render(folder: pathlib.Path) -> dict[str, dict]:
    """What is sent to the cluster."""
    if shutil.which("kustomize"):
        command = ["kustomize", "build", str(folder)]
    elif shutil.which("kubectl"):
        command = ["kubectl", "kustomize", str(folder)]
    else:
        pytest.skip("neither kubectl nor kustomize is installed")
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "replacements" in result.stderr:
        pytest.skip(f"{command[0]} is older than kustomize 4.2")
    assert result.returncode == 0, result.stderr
    return _by_name(yaml.safe_load_all(result.stdout))


def _at(data: object, path: str) -> object:
    """What a path of keys and indices leads to."""
    for key in path.split():
        data = data[int(key)] if isinstance(data, list) else data[key]
    return data


def _put(data: object, path: str, value: object) -> None:
    before, _, last = path.rpartition(" ")
    parent = _at(data, before)
    parent[int(last) if isinstance(parent, list) else last] = value


def _valid(objects: dict[str, dict], versions: Sequence[str] = (NEWEST,)) -> None:
    """Raises where an API would not accept one of the objects, or would drop a key that it does not know."""
    from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet  # takes a second

    job_set = objects["JobSet"]
    # The models drop what they do not know.
    assert JobsetV1alpha2JobSet.from_dict(job_set).to_dict() == job_set
    (job,) = job_set["spec"]["replicatedJobs"]
    metadata = {"name": f"{job_set['metadata']['name']}-{job['name']}-0"}
    jobs = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, **job["template"]}
    for each in [jobs, *(each for each in objects.values() if each is not job_set)]:
        for version in versions:
            assert kubernetes_validate.validate(each, version, strict=True) == version


def test_manifests_are_valid(written):
    _valid(written, (OLDEST, NEWEST))


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Service", "spec clusterIp", "None"),
        ("NetworkPolicy", "spec ingress 0 from 0 podselector", {}),
        ("JobSet", "spec failurePolicy maxRestart", 3),
        ("JobSet", "spec failurePolicy maxRestarts", "3"),
        ("JobSet", f"{JOB} backofLimit", 0),
        ("JobSet", f"{POD} containers 0 securityContext readonlyRootFilesystem", True),
    ],
)
def test_mistakes_are_found(written, kind, path, value):
    """The validation above is one: a key that does not exist or a value of another type fails."""
    wrong = copy.deepcopy(written)
    _put(wrong[kind], path, value)
    with pytest.raises((AssertionError, ValueError, kubernetes_validate.ValidationError)):
        _valid(wrong)


def test_rendered_as_written(folder, written):
    """The files hold values.yaml's own values, so that what is tested of them holds for what is applied."""
    assert _render(folder) == written


def _changed(folder: pathlib.Path, names: list[str], copied: pathlib.Path) -> dict[str, dict]:
    """What is sent to the cluster after these values were changed."""
    shutil.copytree(folder, copied)
    values = yaml.safe_load((copied / "values.yaml").read_text())
    for name in names:
        assert name in values["spec"]
        values["spec"][name] = VALUES[name][0]
    (copied / "values.yaml").write_text(yaml.safe_dump(values))
    return _render(copied)


@pytest.mark.parametrize("name", VALUES)
def test_every_value_has_its_place(folder, written, tmp_path, name):
    """Changing a value changes all places that it stands for and nothing else."""
    before = yaml.safe_load((folder / "values.yaml").read_text())["spec"][name]
    after, places = VALUES[name]
    expected = copy.deepcopy(written)
    for kind, path in places:
        found = _at(expected[kind], path)
        _put(expected[kind], path, found.replace(str(before), str(after)) if isinstance(found, str) else after)
    assert expected != written
    assert _changed(folder, [name], tmp_path / "copy") == expected


def test_changed_values_are_valid(folder, tmp_path):
    assert yaml.safe_load((folder / "values.yaml").read_text())["spec"].keys() == VALUES.keys()
    _valid(_changed(folder, list(VALUES), tmp_path / "copy"))


def test_the_trainer_finds_the_cluster(written, pod, container):
    """The variables, the names that pods have and the Service give every worker the same addresses and its own rank."""
    job_set, service = written["JobSet"], written["Service"]
    (job,) = job_set["spec"]["replicatedJobs"]
    assert job_set["spec"]["network"] == {"enableDNSHostnames": False}  # the JobSet makes no Service of its own
    assert job["template"]["spec"]["completionMode"] == "Indexed"
    assert pod["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"]
    assert "hostNetwork" not in pod["spec"]
    workers = job["template"]["spec"]["completions"]
    assert job["template"]["spec"]["parallelism"] == workers
    given = {variable["name"]: variable["value"] for variable in container["env"]}
    (port,) = (port["containerPort"] for port in container["ports"])
    assert [each["port"] for each in service["spec"]["ports"]] == [port]
    for index in range(workers):
        # What the job's controller adds: a host name, and the index among the variables.
        host = f"{job_set['metadata']['name']}-{job['name']}-0-{index}"
        found = cluster.from_environment(given | {"HOSTNAME": host, "JOB_COMPLETION_INDEX": str(index)})
        assert found.rank == index
        assert found.addresses[index] == f"{host}.{service['metadata']['name']}:{port}"
        assert len(found.addresses) == workers
    with pytest.raises(ConfigError, match="TRAINER_WORKERS"):
        cluster.from_environment(given | {"HOSTNAME": f"a-{workers}", "JOB_COMPLETION_INDEX": str(workers)})


def test_only_the_own_pods_reach_the_workers(written, pod):
    labels = pod["metadata"]["labels"]
    assert written["Service"]["spec"]["selector"] == labels
    fence, outside = written["NetworkPolicy"]["spec"], written["NetworkPolicy egress"]["spec"]
    own = {"podSelector": {"matchLabels": labels}}
    assert fence["podSelector"] == outside["podSelector"] == own["podSelector"]
    assert fence["policyTypes"] == ["Ingress", "Egress"]
    assert fence["ingress"] == [{"from": [own]}]  # every port, of nobody else
    assert fence["egress"] == [{"to": [own]}]
    assert outside["policyTypes"] == ["Egress"]
    assert {(port["protocol"], port["port"]) for rule in outside["egress"] for port in rule["ports"]} == {
        ("UDP", 53),
        ("TCP", 53),
    }


@pytest.mark.parametrize(
    ("code", "disrupted", "action"),
    [
        (42, False, "RestartJobSetAndIgnoreMaxRestarts"),  # preempted; saved
        (42, True, "RestartJobSetAndIgnoreMaxRestarts"),
        (137, True, "RestartJobSetAndIgnoreMaxRestarts"),  # evicted before it could be
        (2, False, "FailJobSet"),  # the configuration is wrong, and will be
        (1, False, "RestartJobSet"),  # lost a worker, hung, failed
        (137, False, "RestartJobSet"),  # out of memory
        (139, False, "RestartJobSet"),
        (12, False, "RestartJobSet"),
    ],
)
def test_restarts(written, code, disrupted, action):
    """What the controllers do where a pod ends like this, by the rules that their documentation and sources tell."""
    assert set(signals.EXIT_CODES.values()) == {42, 130}
    job_set = written["JobSet"]["spec"]
    (job,) = job_set["replicatedJobs"]
    assert job["template"]["spec"]["backoffLimit"] == 0
    assert job["template"]["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert job_set["failurePolicy"]["restartStrategy"] == "BlockingRecreate"
    reason, message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    for index, rule in enumerate(job["template"]["spec"]["podFailurePolicy"]["rules"]):
        assert rule["action"] == "FailJob"
        ending = f" matching FailJob rule at index {index}"
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions", ())
        if codes and codes["operator"] == "In" and code in codes["values"]:
            container = codes["containerName"]
            reason = "PodFailurePolicy"
            message = f"Container {container} for pod default/trainer-workers-0-1-x2v7q failed with exit code {code}"
        elif disrupted and {"type": "DisruptionTarget", "status": "True"} in conditions:
            reason, message = "PodFailurePolicy", "Pod default/trainer-workers-0-1-x2v7q has condition DisruptionTarget"
        else:
            continue
        message += ending
        break
    taken = [
        rule["action"]
        for rule in job_set["failurePolicy"]["rules"]
        if reason in rule["onJobFailureReasons"]
        and any(re.search(pattern, message) for pattern in rule["onJobFailureMessagePatterns"])
    ]
    assert [*taken, "RestartJobSet"][0] == action


def test_pods_meet_the_restricted_standard(pod, container):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards, and a read-only root besides."""
    spec = pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for volume in spec["volumes"]:
        assert volume.keys() - {"name"} <= {"emptyDir", "persistentVolumeClaim"}
    assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers"}
    assert spec["shareProcessNamespace"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


def test_every_volume_is_mounted(written, pod, container):
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert mounts.keys() == volumes.keys()
    claim = volumes["workdir"]["persistentVolumeClaim"]["claimName"]
    assert claim == written["PersistentVolumeClaim"]["metadata"]["name"]
    assert volumes["shared-memory"]["emptyDir"]["medium"] == "Memory"
    assert mounts["shared-memory"] == "/dev/shm"
    assert f"--workdir={mounts['workdir']}/run" in container["command"]


def test_image(root, pod, container):
    (base,) = image.every(root, "FROM")
    version = re.fullmatch(r"python:(3\.\d+)-slim-\w+", base)[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    assert 11 <= int(version.partition(".")[2]) < 14
    assert image.every(root, "ARG") == ["LOCK=requirements.lock"]
    (install,) = (line for line in image.every(root, "RUN") if line.startswith("pip "))
    assert {"--require-hashes", "--no-cache-dir"} <= set(install.split())
    user = pod["spec"]["securityContext"]
    assert image.every(root, "USER") == [f"{user['runAsUser']}:{user['runAsGroup']}"]
    (entry,) = (json.loads(line) for line in image.every(root, "ENTRYPOINT"))
    assert container["command"][: len(entry)] == entry
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    variables = image.variables(root)
    for name in ("HOME", "MPLCONFIGDIR", "TFDS_DATA_DIR"):
        path = pathlib.PurePath(variables[name])
        assert any(path.is_relative_to(mount) for mount in mounts), f"{name} is on the read-only root"
    assert variables["PYTHONUNBUFFERED"] == "1"


def test_image_holds_the_trainer(root, tmp_path):
    """What COPY takes passes .dockerignore, and the trainer starts from it alone."""
    copied = image.copy(root, tmp_path)
    first, *rest = (root / ".dockerignore").read_text().split()
    assert first == "*"
    kept = [pattern.removeprefix("!") for pattern in rest if pattern.startswith("!")]
    for path in [*copied, "launch/requirements-gpu.lock"]:
        parents = [path, *map(str, pathlib.PurePath(path).parents)]
        assert any(fnmatch.fnmatch(each, pattern) for each in parents for pattern in kept), path
        assert (root / path).exists()
    (entry,) = (json.loads(line) for line in image.every(root, "ENTRYPOINT"))
    command = [sys.executable, *entry[1:], "--help"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        command, cwd=tmp_path / "app", env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert "--strategy" in result.stdout
