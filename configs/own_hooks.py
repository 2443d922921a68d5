"""A hook and a logger of your own: functions and classes that follow a run.

In a copy, `my_file:stop_when_good` names one. trainer/run/README.md explains what they get.

bash launch/local.sh --config=configs/own_hooks.py
"""

import ml_collections

from configs import own_table


def stop_when_good(run, step, report, *, r2_score=0.9):
    """Ends the run at the first evaluation that is good enough."""
    if report.kind == "evaluation" and report.values["progression/r2_score"] >= r2_score:
        run.stop(f"an R2 of {r2_score} is enough")


class Table:
    """Writes every report to a file of lines."""

    def __init__(self, file="table.txt"):
        self.file = file

    def start(self, run):
        """Opens the file, also to continue it."""
        self.lines = (run.path / self.file).open("a")

    def write(self, step, values):
        """Writes a line for each value."""
        for name, value in values.items():
            self.lines.write(f"{step} {name} {value}\n")

    def finish(self, result):
        """Writes how the run has ended."""
        self.lines.write(f"{result.outcome} {result.reason}\n")
        self.lines.close()


def get_config() -> ml_collections.ConfigDict:
    """Two heads on a table, followed by the hook and the logger of this file."""
    config = own_table.get_config()
    config.hooks = [{"name": "configs.own_hooks:stop_when_good", "r2_score": 0.3}]  # in a copy: my_file:stop_when_good
    config.loggers = ["configs.own_hooks:Table"]
    return config
