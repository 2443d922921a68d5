"""The direction of better values of everything that an evaluation reports, from a configuration. No TensorFlow.

They are Keras' own (`_direction` of its metrics), by the names of its classes, so that a run can be judged by its
folder alone and nothing that it names is imported. A test compares every metric of Keras.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from trainer.common import schema

UP, DOWN = "up", "down"
_UP = (
    "accuracy acc binary_accuracy categorical_accuracy sparse_categorical_accuracy top_k_categorical_accuracy "
    "sparse_top_k_categorical_accuracy precision recall sensitivity_at_specificity specificity_at_sensitivity "
    "precision_at_recall recall_at_precision auc pearson_correlation concordance_correlation f_beta_score f1_score "
    "io_u binary_io_u mean_io_u one_hot_io_u one_hot_mean_io_u cosine_similarity r2_score"
)
_DOWN = (
    "crossentropy ce bce binary_crossentropy categorical_crossentropy sparse_categorical_crossentropy kld "
    "kl_divergence poisson hinge squared_hinge categorical_hinge mse mean_squared_error mae mean_absolute_error mape "
    "mean_absolute_percentage_error msle mean_squared_logarithmic_error rmse root_mean_squared_error log_cosh_error"
)
_OF_METRICS = {schema.squashed(name): UP for name in _UP.split()} | {
    schema.squashed(name): DOWN for name in _DOWN.split()
}


def of(config: Mapping[str, Any]) -> dict[str, str | None]:
    """Returns name → "up" or "down" for every loss and metric, as reports name them; None where it is not known.

    A function or class of the user's own has no direction, unless `best`, `early_stopping` or `reduce_on_plateau` of
    the configuration watches it with a `mode`.

    Args:
      config: a resolved configuration as nested dictionaries.
    """
    found: dict[str, str | None] = {f"loss/{loss}": DOWN for loss in config["losses"]}
    for name, own in (*config["losses"].items(), *config["metrics"].items()):
        found |= {f"{name}/{metric}": direction for metric, direction in _of_metrics(own).items()}
    for key in ("best", "early_stopping", "reduce_on_plateau"):
        monitor = config[key] or {}
        if monitor.get("mode") in ("min", "max") and found.get(monitor["metric"], UP) is None:
            found[monitor["metric"]] = DOWN if monitor["mode"] == "min" else UP
    return found


def of_value(name: str, known: Mapping[str, str | None]) -> str | None:
    """Returns the direction of a reported value, also of another split, of a segment or of the worst one.

    Args:
      name: of the value: `digit/accuracy`, `test/digit/accuracy`, `segment/ward=3/digit/accuracy/worst`.
      known: what `of` returns.
    """
    parts = name.removesuffix("/worst").split("/")
    return next((known[own] for i in range(len(parts)) if (own := "/".join(parts[i:])) in known), None)


def _of_metrics(own: Mapping[str, Any]) -> dict[str, str | None]:
    """Name → direction, for the metrics of one loss, or of none."""
    found: dict[str, str | None] = {}
    for name, spec in _named(own["metrics"]):
        found[name] = _OF_METRICS.get(schema.squashed(spec))
    for name, spec in _named(own["weighted_metrics"]):
        found[f"weighted_{name}" if name in found else name] = _OF_METRICS.get(schema.squashed(spec))
    return found


def _named(specs: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Name in reports and name in Keras, of each of some metrics."""
    return [(spec.get("as", spec["name"].rpartition(":")[2]), spec["name"]) for spec in specs]
