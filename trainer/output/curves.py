"""All values of a run by their names, as they change over its steps."""

from array import array
from collections.abc import Iterable, Mapping

from trainer.output.reports import Report

# A name of reports → split → steps and values, as machine numbers: a long run has millions of them.
Curves = Mapping[str, Mapping[str, tuple[array, array]]]


def of_reports(reports: Iterable[Report]) -> Curves:
    """Returns every value of the reports, which are read once; those that do not exist are left out."""
    curves: dict[str, dict[str, tuple[array, array]]] = {}
    for report in reports:
        for name, value in report.values.items():
            steps, values = curves.setdefault(name, {}).setdefault(report.split, (array("d"), array("d")))
            if value is not None:
                steps.append(report.step)
                values.append(value)
    return curves
