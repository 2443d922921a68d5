"""The runs of a cell, one after another in a process."""

import dataclasses

from tests import problems
from trainer.common.trust import NOBODY
from trainer.compare import cell_runs
from trainer.compare.messages import Request, RunRequest
from trainer.config import loading


def test_all_runs_of_a_cell_are_compiled_in_the_way_that_the_first_has_found(tmp_path, monkeypatch):
    """But for one that resumes, which has its own; a way that is configured stays."""
    given = []

    def train(config, path, *rest, **others):
        given.append(config.compile)
        folder = tmp_path / path
        folder.mkdir(exist_ok=True)
        way = config.compile if config.compile != "auto" else "passes" if folder.name == "resumes" else "loop"
        loading.save(dataclasses.replace(config, compile=way), folder / "config.json")

    monkeypatch.setattr(cell_runs.train_lib, "train", train)
    (tmp_path / "resumes").mkdir()
    (tmp_path / "resumes" / "config.json").touch()
    runs = [
        RunRequest(0, path, problems.tree(compile=way))
        for path, way in (("first", "auto"), ("second", "auto"), ("resumes", "auto"), ("last", "auto"), ("own", "off"))
    ]
    events = []
    request = Request(runs, "one_device")
    cell_runs.work(request, problems.strategy(1), NOBODY, tmp_path, None, events.append)
    assert [event.kind for event in events] == ["started", "done"] * 5
    assert given == ["auto", "loop", "auto", "loop", "off"]
