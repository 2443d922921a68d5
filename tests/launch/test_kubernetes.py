"""launch/kubernetes: manifests that the API accepts, and every value in its places."""

import copy
import pathlib
import shutil
import subprocess
from collections.abc import Sequence

import kubernetes_validate
import pytest
import yaml

from tests.launch.manifests import INSTANCE, JOB, POD, at, by_name, put

OLDEST, NEWEST = "1.31", "1.37"  # podFailurePolicy is stable since the first; the second is the newest schema
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


def _render(folder: pathlib.Path) -> dict[str, dict]:
    """Returns the objects that are sent to the cluster, by kind."""
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
    return by_name(yaml.safe_load_all(result.stdout))


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
    put(wrong[kind], path, value)
    with pytest.raises((AssertionError, ValueError, kubernetes_validate.ValidationError)):
        _valid(wrong)


def test_rendered_as_written(folder, written):
    """The files hold values.yaml's own values, so that what is tested of them holds for what is applied."""
    assert _render(folder) == written


def _changed(folder: pathlib.Path, names: list[str], copied: pathlib.Path) -> dict[str, dict]:
    """Returns the objects that are sent to the cluster after these values were changed, by kind."""
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
        found = at(expected[kind], path)
        put(expected[kind], path, found.replace(str(before), str(after)) if isinstance(found, str) else after)
    assert expected != written
    assert _changed(folder, [name], tmp_path / "copy") == expected


def test_changed_values_are_valid(folder, tmp_path):
    assert yaml.safe_load((folder / "values.yaml").read_text())["spec"].keys() == VALUES.keys()
    _valid(_changed(folder, list(VALUES), tmp_path / "copy"))
