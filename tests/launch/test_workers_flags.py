"""The launcher's flags: mistakes, what is passed on, and which GPUs each worker gets."""

import os
import shlex
import shutil
import socket
import subprocess

import pytest

from launch import gpus, plans
from launch.supervision import how
from tests.answers import assert_at_once
from tests.launch.programs import finish, python
from trainer.common import visible_gpus
from trainer.common.errors import ConfigError


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--workers=2"], "arguments: must end with -- and the command"),
        (["--workers=2", "--"], "arguments: must end with -- and the command"),
        (["--workers=2", "python"], "arguments='python': must end with -- and the command"),
        (["more", "--workers=2", "--", "true"], "arguments='more': are not known"),
        (["--", "true"], "--workers, --hosts: neither given"),
        (["--workers=2", "--hosts=a", "--", "true"], "--workers, --hosts: both given"),
        (["--workers=0", "--", "true"], "--workers=0: must be at least 1"),
        (["--workers=many", "--", "true"], "flag --workers=many: "),
        (["--worker=2", "--", "true"], "--worker: is no flag; did you mean --workers?"),
        (["--workers=2", "--", "no-such-program"], "command='no-such-program': is not found"),
        (["--workers=2", "--", "./no-such-program"], "command='./no-such-program': is not found"),
        (["--workers=2", "--", ""], "command='': is not found"),
        (["--workers=2", "--directory=no-such", "--", "true"], "--directory='"),
        (["--workers=2", "--grace=-1", "--", "true"], "flag --grace=-1"),
        (["--workers=2", "--config.steps=3", "--", "true"], "--config.steps='3': belongs to the command, after --"),
        (
            ["--workers=2", "--gpus_per_worker=4", "--", "true"],
            "--gpus_per_worker=4: for 2 workers needs 8 GPUs; there",
        ),
        (["--hosts=", "--", "true"], "--hosts=''"),
        (["--hosts=a,-oProxyCommand=x", "--", "true"], "--hosts='-oProxyCommand=x': must be a host"),
        (["--hosts=a b", "--", "true"], "--hosts='a b': must be a host"),
        (["--hosts=a,a", "--port=65535", "--", "true"], "--port=65535: leaves too few ports"),
        (["--hosts=a", "--environment=NO_SUCH", "--", "true"], "--environment='NO_SUCH': is not a variable"),
        (["--hosts=a", "--ssh=no-such-program -v", "--", "true"], "--ssh='no-such-program -v': is not found"),
        (["--hosts=a", "--ssh='", "--", "true"], '--ssh="\'": '),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, arguments, error):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    words, start = (f"error: {error}",), arguments == ["--", "true"]
    assert_at_once("launch.workers", *arguments, words=words, cwd=tmp_path, start=start)


def test_help(launch):
    code, output, _ = finish(launch("--help"))
    assert code == 0
    for flag in ("--workers", "--hosts", "--grace", "--max_restarts", "--gpus_per_worker"):
        assert f"\n  {flag}:" in output


def test_what_follows_the_dashes_is_the_commands(launch):
    code, output, _ = finish(launch("--workers=1", "--", "echo", "--help", "--config.steps=3", "--", "'a b'"))
    assert (code, output) == (0, "[0] --help --config.steps=3 -- 'a b'\n")


def test_directory(launch, tmp_path):
    (tmp_path / "there").mkdir()
    code, output, _ = finish(launch("--workers=1", "--directory=there", "--", "pwd"))
    assert (code, output) == (0, f"[0] {tmp_path}/there\n")


@pytest.mark.parametrize(
    ("gpus_there", "workers", "per_worker", "expected"),
    [
        ([], 2, None, [None, None]),
        (["0", "1"], 1, None, [None]),
        (["0", "1", "2", "3"], 2, None, ["0,1", "2,3"]),
        (["7", "GPU-a", "2"], 3, None, ["7", "GPU-a", "2"]),
        (["0", "1", "2"], 2, 1, ["0", "1"]),
        (["0"], 2, 0, ["", ""]),
        ([], 2, 0, ["", ""]),
    ],
)
def test_gpus_are_shared_out(gpus_there, workers, per_worker, expected):
    assert gpus.divided(gpus_there, workers, per_worker) == expected


@pytest.mark.parametrize(
    ("gpus_there", "per_worker", "field"), [(["0"], None, "--workers"), (["0", "1", "2"], 2, "--gpus_per_worker")]
)
def test_gpus_that_cannot_be_shared_out(gpus_there, per_worker, field):
    with pytest.raises(ConfigError) as error:
        gpus.divided(gpus_there, 2, per_worker)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("given", "expected"), [("0,1", ["0", "1"]), ("", []), ("-1", []), ("3, GPU-ab,-1,2", ["3", "GPU-ab"])]
)
def test_gpus_that_the_environment_shows(given, expected):
    assert visible_gpus.visible({"CUDA_VISIBLE_DEVICES": given}) == expected


def test_gpus_that_the_driver_lists(tmp_path, monkeypatch):
    lines = [f"GPU {index}: NVIDIA A100-SXM4-40GB (UUID: GPU-5f2c1d3e-{index})" for index in range(2)]
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert visible_gpus.visible({}) == ["0", "1"]


def test_workers_on_a_machine_get_their_own_gpus(launch):
    program = python("print(os.environ['CUDA_VISIBLE_DEVICES'])")
    code, output, errors = finish(launch("--workers=2", "--", *program, CUDA_VISIBLE_DEVICES="4,5,6,7"))
    assert code == 0
    assert sorted(output.splitlines()) == ["[0] 4,5", "[1] 6,7"]
    assert errors == "workers: CUDA_VISIBLE_DEVICES of each worker: 4,5 | 6,7\n"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1, "ended with exit code 1"),
        (130, "ended with exit code 130"),
        (137, "was killed by SIGKILL"),
        (255, "ended with exit code 255"),
    ],
)
def test_exit_codes_in_words(code, expected):
    assert how(code) == expected


def test_free_ports_are_free_and_differ():
    ports = plans.free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as probe:
            probe.bind(("", port))


def _nft() -> str | None:
    """The program, where it is there and may look at this machine's rules."""
    nft = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")
    return nft if nft and subprocess.run([nft, "list", "tables"], capture_output=True).returncode == 0 else None


def test_firewall_lets_in_the_hosts_alone():
    hosts = ["me@127.0.0.1", "127.0.0.1", "you@127.0.0.2", "[::1]"]
    nft, commands = shlex.split(plans.firewall(hosts, 4000, None))
    assert nft == "nft"
    peers = "ip saddr {{ 127.0.0.1, 127.0.0.2 }} {0} accept; ip6 saddr {{ ::1 }} {0} accept; {0} drop;"
    for name, match in (
        ("trainer_4000", "tcp dport 4000"),
        ("trainer_4001", "tcp dport 4001"),
        ("trainer_nccl", "tcp dport 32768-60999 ct state new"),
    ):
        assert f"add table inet {name}; delete table inet {name}; table inet {name} {{" in commands
        assert f"iif lo accept; {peers.format(match)}" in commands
    assert "nccl" not in plans.firewall(hosts, 4000, 0)  # no GPU is used


def test_another_firewall_takes_the_place_of_the_first():
    """Without a second table that still drops what the new one accepts; in a network of the test's own."""
    nft = _nft()
    if nft is None:
        pytest.skip("needs nft and its rights (on Debian and Ubuntu: apt install nftables)")
    lines = [
        plans.firewall(hosts, 4000, 0).replace("nft", nft, 1) for hosts in (["10.0.0.1"], ["10.0.0.2", "10.0.0.3"])
    ]
    script = "; ".join([*lines, f"{nft} list ruleset"])
    result = subprocess.run(["unshare", "--net", "sh", "-ec", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("table ") == 1
    assert "10.0.0.1" not in result.stdout
    assert "ip saddr { 10.0.0.2, 10.0.0.3 } tcp dport 4000 accept" in result.stdout


def test_firewall_knows_no_host_by_the_launchers_loopback_address():
    with pytest.raises(
        ConfigError, match="--hosts='localhost': is .*127.0.0.1.* here .*, where no other host reaches it"
    ):
        plans.firewall(["localhost", "192.0.2.1"], 4000, None)
