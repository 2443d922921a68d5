"""A run's directory: no file of a run is reached through a symbolic link, which somebody else may have put there."""

import pytest

from trainer.common import atomic_files
from trainer.common.errors import ConfigError
from trainer.config import loading
from trainer.output import workdir
from trainer.output.workdir import Workdir


@pytest.fixture
def config(root):
    return loading.load(str(root / "configs" / "digits.py"))


@pytest.mark.parametrize("name", ["lock", "config.json", "metrics.jsonl", "log.txt", "checkpoints"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_refused(tmp_path, config, name, exists):
    """Before anything is written, also where it leads to nothing yet; for a new run and for one that resumes."""
    run, target = tmp_path / "run", tmp_path / "target"
    if name != "config.json":
        workdir.create(str(run), config).release()
    else:
        run.mkdir()
    if exists:
        target.write_text("kept")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(target)
    with pytest.raises(ConfigError, match=f"its {name} is a symbolic link, which a run never writes through"):
        workdir.claim(str(run), config)
    assert target.exists() is exists
    assert not exists or target.read_text() == "kept"


def test_a_link_that_comes_later_is_not_followed(tmp_path, config):
    """Put there between the look and the writing."""
    target = tmp_path / "target"
    target.write_text("kept")
    (tmp_path / "lock").symlink_to(target)
    with pytest.raises(ConfigError, match="cannot be written: lock is a symbolic link"):
        workdir.create(str(tmp_path), config)
    for name in (".incomplete_config.json", "metrics.jsonl"):
        (tmp_path / name).symlink_to(target)
    with pytest.raises(OSError, match="config.json is a symbolic link"):
        atomic_files.write_whole(tmp_path / "config.json", "text")
    with pytest.raises(OSError, match="metrics.jsonl is a symbolic link"):
        atomic_files.open_to_append(Workdir(tmp_path).metrics)
    assert target.read_text() == "kept"
