"""Metrics by name, resolved as Keras' `compile` does."""

import keras
import pytest
import tensorflow as tf

from tests import problems
from trainer.common.errors import ConfigError
from trainer.components import metrics


def _build(names, prediction=(3,), target=()):
    keras.config.set_floatx("float32")
    config = problems.config(losses__label__metrics=names).losses["label"]
    specs = (
        tf.TensorSpec((None, *prediction)),
        tf.TensorSpec((None, *target), tf.float32 if target == prediction else tf.int64),
    )
    return metrics.build("label", config, prediction=specs[0], target=specs[1])


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
    assert type(metric).__name__ == kind + name.title()


def test_names_arguments_and_paths():
    built = _build(["mae", {"name": "SparseTopKCategoricalAccuracy", "k": 2}])
    built |= _build(["tests.trainer.components.test_metrics:bias"], (3,), (3,))
    assert list(built) == ["mae", "SparseTopKCategoricalAccuracy", "bias"]
    built["bias"].update_state(tf.constant([1.0, 2.0]), tf.constant([2.0, 4.0]))
    assert float(built["bias"].result()) == 1.5


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
    assert isinstance(_build("accuracy")["accuracy"], keras.metrics.Metric)
