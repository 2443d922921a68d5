"""Fine-tuning in two stages: the commands of trainer/models/README.md get what the page says."""

import json
import re
import subprocess
import sys

import pytest

from tests import forked
from tests.readmes import FINE_TUNING
from trainer.models import weight_files
from trainer.output import checkpoint_tensors


def _trained(command, folder):
    """Runs a command that trains, in a folder which has the configurations but is not the project."""
    python, flag, module, *arguments = command.split()
    assert (python, flag) == ("python", "-m")
    return forked.run(module, *arguments, cwd=folder)


@pytest.fixture
def folder(tmp_path, root):
    (tmp_path / "configs").symlink_to(root / "configs")
    return tmp_path


def test_a_backbone_that_is_not_there(folder):
    result = _trained(FINE_TUNING[1], folder)
    assert result.returncode == 2
    assert re.search(r"^error: init_from\.path='backbone\.weights\.h5': does not exist", result.stderr, re.MULTILINE)
    assert not (folder / "runs").exists()


@pytest.mark.ci_only
def test_both_stages(folder, root):
    python, _, code = FINE_TUNING[0].split(maxsplit=2)
    assert python == "python"
    script = f"import sys; sys.path.insert(0, {str(root)!r}); {code[1:-1]}"
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True, timeout=300, capture_output=True)
    outputs = []
    for command in FINE_TUNING[1:]:
        result = _trained(command, folder)
        assert result.returncode == 0, result.stderr
        outputs.append(result.stdout)
    assert "frozen 10,128" in outputs[0]
    assert "times 0.1 for 33 variables: shared" in outputs[1]
    assert re.search(r"step 200: no better loss/digit in 1 evaluations, learning rate from 0.003 to 0.0015", outputs[1])

    file = weight_files.read(folder / "backbone.weights.h5", "file", "file")
    there = {str(value.tobytes()) for value in file.values()}
    heads, everything = (_variables(folder / "runs" / name) for name in ("heads", "everything"))
    assert {name for name, value in heads.items() if str(value.tobytes()) not in there} == {
        f"{head}/{part}" for head in ("digit", "ink") for part in ("kernel", "bias")
    }
    assert all((everything[name] != value).any() for name, value in heads.items())

    claims = re.search(
        r"heads alone read ([\d.]+) %, with an error of the ink of ([\d.]+); .* it is\s([\d.]+) % and ([\d.]+)\.",
        (root / "trainer" / "models" / "README.md").read_text(),
    )
    for name, accuracy, error in (("heads", *claims.groups()[:2]), ("everything", *claims.groups()[2:])):
        last = json.loads((folder / "runs" / name / "metrics.jsonl").read_text().splitlines()[-1])
        assert last["digit/accuracy"] == pytest.approx(float(accuracy) / 100, abs=0.03)  # others round differently
        assert last["ink/mae"] == pytest.approx(float(error), abs=0.02)


def _variables(run):
    return checkpoint_tensors.part(run / "checkpoints" / "step_00000300", "model")
