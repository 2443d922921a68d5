"""The description as a value: it prints what the command prints."""

import importlib

import pytest

import trainer
from tests import forked


@pytest.mark.ci_only
def test_describe(tmp_path, root):
    file = root / "configs" / "own_arrays.py"
    described = trainer.describe(file, batch_size=24, picture=True)
    result = forked.run("trainer.describe", f"--config={file}", "--config.batch_size=24", cwd=tmp_path, COLUMNS="120")
    assert result.returncode == 0, result.stderr
    lines = {line.strip() for line in str(described).splitlines() if "a second in batches" not in line}
    printed = {line.strip() for line in result.stdout.splitlines()}
    assert lines <= printed
    assert any("cultivar" in line for line in lines)
    assert described.picture.startswith(b"\x89PNG")
    assert described._repr_html_().startswith("<pre>")
    assert [table.title for table in described.data]


def test_the_package_can_be_called():
    package = importlib.import_module("trainer.describe")
    assert trainer.describe is package
    assert importlib.import_module("trainer.describe.tables").NOTHING == "–"
