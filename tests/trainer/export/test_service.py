"""The commands of the pages on predictions and exports, from training to what a service answers."""

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from tests import forked
from tests.readmes import SERVICE


@pytest.mark.ci_only
def test_from_training_to_a_service(root, tmp_path):
    """The export answers, without this project, what the run predicts of the first row that was held out."""
    (tmp_path / "configs").symlink_to(root / "configs")
    *commands, call = SERVICE
    outputs = []
    for command in commands:
        python, flag, module, *arguments = command.split()
        assert (python, flag) == ("python", "-m")
        result = forked.run(module, *arguments, cwd=tmp_path)
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
        outputs.append(result.stdout)
    final = json.loads((tmp_path / "runs" / "diabetes" / "metrics.jsonl").read_text().splitlines()[-1])
    assert final["labels/progression"] == len(np.genfromtxt(tmp_path / "held_out.csv", delimiter=",", names=True)) == 88
    assert "patients.parquet: 442 rows" in outputs[2]
    assert "r2_score" in outputs[3]
    assert "served/diabetes/1 (saved_model; run on 8 examples of the run's data" in outputs[4]
    program = [sys.executable, *call.removeprefix("python ").split(" ", 1)[:1], call.split("'")[1]]
    answer = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    predicted = next(csv.DictReader((tmp_path / "held_out.csv").read_text().splitlines()))
    for name in ("progression", "high_pressure/probability"):  # in any order
        number = re.search(rf"'{name}': .*?array\(\[([\d.e+-]+)\]", answer)[1]
        assert float(number) == pytest.approx(float(predicted[name]))
    assert predicted["high_pressure"] in answer
