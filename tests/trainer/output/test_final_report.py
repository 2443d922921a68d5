"""`report.md`: the last and the best values, and what repeats the run."""

from tests import problems
from trainer.output import final_report
from trainer.output.final_report import About
from trainer.output.reports import TRAIN, VALIDATION, Report
from trainer.output.speed import Total

_DIRECTIONS = {"loss/number": "down", "label/accuracy": "up", "number/own": None}


def _evaluation(step: int, loss: float | None, accuracy: float, split: str = VALIDATION) -> Report:
    return Report(step, split, {"loss/number": loss, "label/accuracy": accuracy, "number/own": 3.0})


def test_best_values_are_the_first_best_ones_by_their_direction():
    reports = [
        Report(1, TRAIN, {"loss/number": 0.001, "fallbacks": 2}),
        _evaluation(2, 0.5, 0.7),
        _evaluation(4, float("nan"), 0.9),
        _evaluation(5, 0.1, 0.99, "test"),
        _evaluation(6, 0.25, 0.9),
        _evaluation(8, None, 0.8),
        Report(8, TRAIN, {"fallbacks": 1}),
    ]
    summary = final_report.summarised(reports, _DIRECTIONS)
    assert summary.best == {"loss/number": (6, 0.25), "label/accuracy": (4, 0.9)}
    about = About({"label": "label", "number": "number"}, _DIRECTIONS, "shared 7", "python -m x", ["a note"])
    text = final_report.markdown(summary, problems.config(), about, Total([], 11), best=None)
    assert text.startswith("# Validation after 8 steps\n")
    assert "| loss/number | 0.25 | 6 | missing |\n| label/accuracy | 0.9 | 4 | 0.8 |\n" in text
    assert "8 steps of 11 examples, weighted applied jointly, seed 0; parameters: shared 7.\n" in text
    assert "## Test after 5 steps\n" in text
    assert "In 3 steps the gradients left weighted without a solution" in text
    for part in ("Warning: a note.\n", "\npython -m x\n", "Python 3.", "Keras 3.15"):
        assert part in text
