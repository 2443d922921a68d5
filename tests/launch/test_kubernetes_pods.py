"""The pods of launch/kubernetes: cluster, network, restarts, permissions, volumes, image."""

import fnmatch
import ipaddress
import json
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from tests.launch import image
from trainer.common.errors import ConfigError
from trainer.distributed import cluster, signals


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
    (names,) = outside["egress"]
    namespace = {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}
    resolver = {"namespaceSelector": namespace, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    assert names["to"] == [resolver]
    assert [(port["protocol"], port["port"]) for port in names["ports"]] == [("UDP", 53), ("TCP", 53)]


@pytest.mark.parametrize(
    ("address", "reached"),
    [("151.101.0.223", True), ("2a04:4e42::223", True)]
    + [
        (credentials, False) for credentials in ("169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254")
    ],
)
def test_what_a_download_may_reach(folder, address, reached):
    """The rule that values.yaml has in comments: the internet, but not where clouds hand out credentials."""
    lines = (folder / "values.yaml").read_text().splitlines()
    rule = [line.replace("    # ", "", 1) for line in lines if line.startswith(("    # - ", "    #   "))]
    ((rule,), number) = yaml.safe_load("\n".join(rule)), ipaddress.ip_address(address)
    assert [port["port"] for port in rule["ports"]] == [80, 443]
    blocks = [block["ipBlock"] for block in rule["to"]]
    admitted = [
        number in ipaddress.ip_network(block["cidr"])
        and not any(number in ipaddress.ip_network(each) for each in block["except"])
        for block in blocks
    ]
    assert any(admitted) is reached


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
    """The controllers' reaction to a pod's end, by the rules in their documentation and sources."""
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
    """https://kubernetes.io/docs/concepts/security/pod-security-standards, and a read-only root too."""
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
    version = re.fullmatch(r"python:(3\.\d+)-slim-\w+@sha256:[0-9a-f]{64}", base)[1]
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
    """The files that COPY takes pass .dockerignore, and the trainer starts from them alone."""
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
