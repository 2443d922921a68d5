"""Metrics by name, resolved as Keras' `compile` does."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from tests import problems
from trainer.common.errors import ConfigError
from trainer.components import losses, metrics


def _build(names, prediction=(3,), target=()):
    keras.config.set_floatx("float32")
    config = problems.config(losses__label__metrics=names).losses["label"]
    specs = (
        tf.TensorSpec((None, *prediction)),
        tf.TensorSpec((None, *target), tf.float32 if target == prediction else tf.int64),
    )
    return metrics.build(losses.build("label", config), config, prediction=specs[0], target=specs[1])


def _results(loss, names, target, prediction, weights=None, weighted=()) -> dict[str, float]:
    """Results of metrics over one batch; `weights` of every label."""
    keras.config.set_floatx("float64")
    prediction = tf.constant(prediction, tf.float64)
    target = tf.constant(target)
    given = {"loss": loss, "metrics": names, "weighted_metrics": weighted}
    config = problems.config(losses__label=given | {"head": "label"}).losses["label"]
    weights = None if weights is None else tf.constant(weights, tf.float64)
    built = metrics.build(losses.build("label", config), config, prediction=prediction, target=target, weights=weights)
    for metric in built.values():
        metric.update(target, prediction, weights)
    return {name: metric.result() for name, metric in built.items()}


@pytest.mark.parametrize(
    ("prediction", "target", "kind"),
    [
        ((1,), (), "Binary"),
        ((1,), (1,), "Binary"),
        ((10,), (), "SparseCategorical"),
        ((10,), (1,), "SparseCategorical"),
        ((10,), (10,), "Categorical"),
        ((4, 4, 10), (4, 4), "SparseCategorical"),
    ],
)
@pytest.mark.parametrize("name", ["accuracy", "Accuracy", "crossentropy"])
def test_names_that_depend_on_the_shapes(prediction, target, kind, name):
    (metric,) = _build([name], prediction, target).values()
    assert type(metric.metric).__name__ == kind + name.title()


def test_names_arguments_and_paths():
    built = _build(["mae", {"name": "SparseTopKCategoricalAccuracy", "k": 2}])
    built |= _build(["tests.trainer.components.test_metrics:bias"], (3,), (3,))
    assert list(built) == ["mae", "SparseTopKCategoricalAccuracy", "bias"]
    built["bias"].update(tf.constant([1.0, 2.0]), tf.constant([2.0, 4.0]), None)
    assert built["bias"].result() == 1.5


def test_metrics_of_one_kind_go_by_names_of_their_own():
    top = [{"name": "sparse_top_k_categorical_accuracy", "k": k, "as": f"top{k}"} for k in (1, 2)]
    assert list(_build(top)) == ["top1", "top2"]


def bias(target, prediction):
    return prediction - tf.cast(target, prediction.dtype)


@pytest.mark.parametrize(
    ("names", "field", "words"),
    [
        (["acuracy"], "losses.label.metrics.0", "did you mean 'accuracy'"),
        (["mae", "mae"], "losses.label.metrics.1", "twice"),
        ([{"name": "mae", "as": "a/b"}], "losses.label.metrics.0.as", "letters"),
        (["precision"], "losses.label.metrics.0", "does not fit a target of shape ()"),
        (
            [{"name": "auc", "num_threshold": 3}],
            "losses.label.metrics.0.num_threshold",
            "did you mean 'num_thresholds'",
        ),
        (["f1_score"], "losses.label.metrics.0", "does not fit a target of shape ()"),
    ],
)
def test_what_cannot_be_used_is_named(names, field, words):
    with pytest.raises(ConfigError) as caught:
        _build(names)
    assert caught.value.field == field
    assert words in str(caught.value)


def test_a_result_for_every_class_is_refused():
    with pytest.raises(ConfigError, match="gives 3 numbers; a metric must give one number"):
        _build(["f1_score"], (3,), (3,))
    assert _build([{"name": "f1_score", "average": "macro"}], (3,), (3,))


def test_single_metric_needs_no_list():
    assert list(_build("accuracy")) == ["accuracy"]
    assert isinstance(_build("accuracy")["accuracy"].metric, keras.metrics.Metric)


BINARY = {"name": "binary_crossentropy", "from_logits": True}
LOGITS = np.repeat([0.3, -0.5, -1.0], [8, 8, 48])[:, np.newaxis]  # a label where above -0.7
OF_ONE = {"accuracy": 0.875, "precision": 1, "recall": 0.5, "auc": 1, "f1_score": 2 / 3}
SCORES = np.random.RandomState(3).normal(size=(40, 3))
INDEX = np.random.RandomState(4).randint(3, size=40)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


@pytest.mark.parametrize(
    ("loss", "convert"),
    [
        (BINARY, lambda logits: logits),
        ({"name": "keras.losses:binary_crossentropy", "from_logits": True}, lambda logits: logits),
        ("binary_crossentropy", _sigmoid),
        ("hinge", lambda logits: logits),
        ({"name": "tests.trainer.components.test_metrics:own", "from_logits": True}, lambda logits: logits),
    ],
)
def test_metrics_of_one_label_get_probabilities(loss, convert):
    for labels in (np.float64(LOGITS > -0.7), np.int64(LOGITS[:, 0] > -0.7)):
        found = _results(loss, list(OF_ONE), labels, convert(LOGITS))
        assert found == pytest.approx(OF_ONE, abs=1e-6)


def own(target, prediction, from_logits=False):
    """Binary cross-entropy as one's own function."""
    return keras.losses.binary_crossentropy(target, prediction, from_logits=from_logits)


def test_labels_of_a_hinge_loss_may_be_signs():
    found = _results("hinge", ["accuracy", "precision"], np.where(LOGITS > -0.7, 1.0, -1.0), LOGITS)
    assert found == pytest.approx({"accuracy": 0.875, "precision": 1})


@pytest.mark.parametrize("threshold", [0, 0.5])
def test_a_threshold_of_zero_is_one_of_logits(threshold):
    found = _results(BINARY, [{"name": "recall", "thresholds": threshold}], np.float64(LOGITS > -0.7), LOGITS)
    assert found["recall"] == 0.5


def test_several_labels_count_each_on_its_own():
    """Accuracy of a binary loss is no argmax; of those that are missing nothing counts."""
    labels = np.random.RandomState(5).uniform(size=SCORES.shape) < 0.4
    names = ["accuracy", "binary_accuracy", "ce", {"name": "f1_score", "average": "micro"}, "auc"]
    there = np.random.RandomState(6).uniform(size=SCORES.shape) < 0.6
    for shown in (np.ones_like(there), there):
        found = _results(BINARY, names, np.float64(labels), SCORES, None if shown.all() else np.float64(shown))
        positive, true = (SCORES > 0)[shown], labels[shown]
        logs = np.where(true, np.log(_sigmoid(SCORES[shown])), np.log(_sigmoid(-SCORES[shown])))
        assert found["accuracy"] == found["binary_accuracy"] == pytest.approx((positive == true).mean())
        assert found["ce"] == pytest.approx(-logs.mean())
        assert found["f1_score"] == pytest.approx(2 * (positive & true).sum() / (positive.sum() + true.sum()))
        assert found["auc"] == pytest.approx(roc_auc_score(true, SCORES[shown]), abs=0.01)


def test_intersection_over_union_reads_classes_from_scores():
    loss = {"name": "sparse_categorical_crossentropy", "from_logits": True}
    weights = np.random.RandomState(7).uniform(0, 0.9, size=40) * (np.arange(40) > 3)
    names = [{"name": "mean_io_u", "num_classes": 3}]
    found = _results(loss, names, INDEX, SCORES, weights, names)
    chosen = SCORES.argmax(1)

    def mean(weights: np.ndarray) -> float:
        hits = [
            weights[(chosen == k) & (k == INDEX)].sum() / weights[(chosen == k) | (k == INDEX)].sum() for k in range(3)
        ]
        return float(np.mean(hits))

    assert found == pytest.approx({"mean_io_u": mean(np.float64(weights > 0)), "weighted_mean_io_u": mean(weights)})


def of_the_batch(target, prediction):
    """A number for a whole batch."""
    return keras.ops.mean(target) - keras.ops.mean(prediction)


class OfTheBatch(keras.metrics.MeanMetricWrapper):
    """The mean of such numbers."""

    def __init__(self, name=None, dtype=None):
        super().__init__(of_the_batch, name, dtype)


class Results(keras.metrics.Mean):
    """A metric of several results by name."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_pred)

    def result(self):
        return {"mean": super().result(), "twice": 2 * super().result()}


class Text(Results):
    """A metric in words."""

    def result(self):
        return "good"


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("tests.trainer.components.test_metrics:of_the_batch", "returns shape \\(\\) for 3 examples"),
        ("tests.trainer.components.test_metrics:OfTheBatch", "returns shape \\(\\) for 3 examples"),
        ("tests.trainer.components.test_metrics:Results", "gives 2 results by name"),
        ("tests.trainer.components.test_metrics:Text", "gives str"),
        ({"name": "pearson_correlation", "axis": 0}, "that of the examples"),
        ({"name": "mean_io_u", "num_classes": 2}, "'binary_io_u'"),
    ],
)
def test_what_gives_no_number_of_a_split_is_refused(metric, words):
    with pytest.raises(ConfigError, match=words):
        _build([metric], (1,), (1,))


def test_logits_of_which_nothing_is_known_make_no_probabilities():
    loss = {"name": "tests.trainer.components.test_metrics:own", "from_logits": True}
    with pytest.raises(ConfigError, match="takes probabilities, but whether head 'label' gives logits of labels or"):
        _results(loss, ["auc"], np.eye(3)[INDEX], SCORES)
    assert _results(loss, ["mse"], np.eye(3)[INDEX], SCORES)
