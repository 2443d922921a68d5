"""Six ordinary Keras scripts; the class of the models that they train is an argument, and nothing else.

Every script takes that class, where to train, and further arguments of `compile`. Its data are small and made up. The
last batch of each epoch is smaller than the others: one example, fewer than replicas, where no layer looks at the
statistics of a batch.
"""

import contextlib
import pathlib
import tempfile
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from input_pipelines.examples import Examples

BATCH = 12
EXAMPLES = 6 * BATCH + 1
WORDS, LENGTH, TAGS = 20, 9, 5
CITIES = ("Graz", "Linz", "Wels")


class Trained(NamedTuple):
    """The results of a script.

    Attributes:
      model: the model, trained.
      history: of its last `fit`.
    """

    model: keras.Model
    history: dict[str, list[float]]

    @property
    def variables(self) -> dict[str, np.ndarray]:
        """All of the model's variables, in their order; layers made later in a process have other names."""
        return {f"{k} {v.name}": keras.ops.convert_to_numpy(v) for k, v in enumerate(self.model.weights)}


def photographs(model_class: type[keras.Model], strategy: tf.distribute.Strategy | None = None, **more: Any) -> Trained:
    """MobileNetV3 with three heads, 20 steps."""
    count, size = 76, 8
    random = np.random.RandomState(1)
    pictures = random.uniform(0, 255, (count, 32, 32, 3))
    targets = {
        "kind": random.randint(0, 4, count),
        "indoors": random.randint(0, 2, (count, 1)),
        "brightness": pictures.mean((1, 2, 3))[:, np.newaxis] / 255,
    }
    with _scope(strategy):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((32, 32, 3))
        trunk = keras.applications.MobileNetV3Small((32, 32, 3), include_top=False, weights=None, pooling="avg")
        features = trunk(inputs)
        outputs = {
            "kind": keras.layers.Dense(4, activation="softmax", name="kind")(features),
            "indoors": keras.layers.Dense(1, activation="sigmoid", name="indoors")(features),
            "brightness": keras.layers.Dense(1, name="brightness")(features),
        }
        model = model_class(inputs, outputs)
        model.compile(
            optimizer=keras.optimizers.Adam(0.001),
            loss={"kind": "sparse_categorical_crossentropy", "indoors": "binary_crossentropy", "brightness": "mae"},
            loss_weights={"kind": 1.0, "indoors": 0.5, "brightness": 2.0},
            metrics={"kind": "accuracy", "indoors": ["accuracy", "auc"]},
            **more,
        )
    fitted = model.fit(pictures, targets, batch_size=size, epochs=2, shuffle=False, verbose=0)
    return Trained(model, fitted.history)


def list_of_outputs(
    model_class: type[keras.Model], strategy: tf.distribute.Strategy | None = None, **more: Any
) -> Trained:
    """A class of one's own, not built before `fit`, that returns a list."""

    class Network(model_class):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = keras.layers.Dense(16, activation="tanh", kernel_regularizer="l2")
            self.kind = keras.layers.Dense(4)
            self.sizes = keras.layers.Dense(3)

        def call(self, inputs: tf.Tensor) -> list[tf.Tensor]:
            hidden = self.hidden(inputs)
            return [self.kind(hidden), self.sizes(hidden)]

    random = np.random.RandomState(2)
    inputs = random.normal(size=(EXAMPLES, 6))
    targets = [random.randint(0, 4, EXAMPLES), inputs[:, :3] * inputs[:, 3:]]
    with _scope(strategy):
        keras.utils.set_random_seed(2)
        model = Network()
        model.compile(
            optimizer="adam",
            loss=[keras.losses.SparseCategoricalCrossentropy(from_logits=True), "mse"],
            loss_weights=[0.3, 2.0],
            metrics=[["accuracy"], ["mae"]],
            **more,
        )
    weights = [random.uniform(size=EXAMPLES), random.uniform(size=EXAMPLES)]
    arguments = {"sample_weight": weights, "batch_size": BATCH, "epochs": 7, "shuffle": False, "verbose": 0}
    return Trained(model, model.fit(inputs, targets, **arguments).history)


def image_and_table(
    model_class: type[keras.Model], strategy: tf.distribute.Strategy | None = None, **more: Any
) -> Trained:
    """Two inputs and two outputs by name, a dataset, a schedule, validation."""
    data = tf.data.Dataset.from_tensor_slices(image_and_table_arrays()).take(EXAMPLES - 1)  # whole batches
    with _scope(strategy):
        model = image_and_table_model(model_class)
        schedule = keras.optimizers.schedules.ExponentialDecay(0.01, decay_steps=10, decay_rate=0.8)
        model.compile(
            optimizer=keras.optimizers.Adam(schedule),
            loss={"kind": "sparse_categorical_crossentropy", "value": "huber"},
            loss_weights={"kind": 1.0, "value": 3.0},
            metrics={"kind": "accuracy"},
            **more,
        )
    fitted = model.fit(data.batch(BATCH), validation_data=data.take(20).batch(7), epochs=4, verbose=0)
    return Trained(model, fitted.history)


def image_and_table_arrays() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs and targets of `image_and_table`."""
    random = np.random.RandomState(3)
    image, table = random.normal(size=(EXAMPLES, 10, 10, 1)), random.normal(size=(EXAMPLES, 5))
    value = (table.sum(1) + image.mean((1, 2, 3)))[:, np.newaxis]
    return {"image": image, "table": table}, {"kind": np.argmax(table[:, :3], 1), "value": value}


def image_and_table_model(model_class: type[keras.Model] = keras.Model) -> keras.Model:
    """Builds the model of `image_and_table`."""
    keras.utils.set_random_seed(3)
    inputs = {"image": keras.Input((10, 10, 1), name="image"), "table": keras.Input((5,), name="table")}
    image = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(inputs["image"])
    image = keras.layers.BatchNormalization(synchronized=True)(image)
    table = keras.layers.Dense(8, activation="relu")(inputs["table"])
    both = keras.layers.Concatenate()([keras.layers.Flatten()(image), table])
    hidden = keras.layers.Dense(12, activation="tanh")(both)
    kind = keras.layers.Dense(3, activation="softmax", name="kind")(hidden)
    return model_class(inputs, {"kind": kind, "value": keras.layers.Dense(1, name="value")(hidden)})


def text(model_class: type[keras.Model], strategy: tf.distribute.Strategy | None = None, **more: Any) -> Trained:
    """Sentences of several lengths: an LSTM, a tag for each word, a number for the whole."""
    with _scope(strategy):
        model = text_model(model_class)
        model.compile(
            **{"optimizer": keras.optimizers.Adam(0.01)} | more,
            loss={"tag": "sparse_categorical_crossentropy", "mood": "mse"},
            loss_weights={"tag": 1.0, "mood": 0.5},
            metrics={"tag": "accuracy", "mood": "mae"},
        )
    fitted = model.fit(*text_arrays(), batch_size=BATCH, epochs=4, shuffle=False, verbose=0)
    return Trained(model, fitted.history)


def text_arrays() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Inputs (0 where a sentence has ended) and targets of `text`."""
    random = np.random.RandomState(4)
    words = random.randint(1, WORDS, (EXAMPLES, LENGTH))
    words[np.arange(LENGTH) >= random.randint(2, LENGTH + 1, EXAMPLES)[:, np.newaxis]] = 0
    return words, {"tag": words % TAGS, "mood": np.cos(words).sum(1, keepdims=True)}


def text_model(model_class: type[keras.Model] = keras.Model) -> keras.Model:
    """Builds the model of `text`."""
    keras.utils.set_random_seed(4)
    inputs = keras.Input((LENGTH,), dtype="int32", name="words")
    embedded = keras.layers.Embedding(WORDS, 6, mask_zero=True)(inputs)
    steps = keras.layers.LSTM(7, return_sequences=True)(embedded)
    tag = keras.layers.Dense(TAGS, activation="softmax", name="tag")(steps)
    mood = keras.layers.Dense(1, name="mood")(keras.layers.GlobalAveragePooling1D()(steps))
    return model_class(inputs, {"tag": tag, "mood": mood})


def preprocessing_inside(
    model_class: type[keras.Model], strategy: tf.distribute.Strategy | None = None, **more: Any
) -> Trained:
    """Raw numbers and words go into the model, which scales, looks up and hashes them; the outputs are a tuple."""
    random = np.random.RandomState(5)
    age = random.uniform(18, 90, (EXAMPLES, 1))
    city = np.array([*CITIES, "elsewhere"])[random.randint(0, 4, EXAMPLES)]
    street = np.array([f"street {number}" for number in random.randint(0, 30, EXAMPLES)])
    rows = {"age": age, "city": city[:, np.newaxis], "street": street[:, np.newaxis]}
    income, moves = age / 50 + (city[:, np.newaxis] == "Graz"), random.randint(0, 2, (EXAMPLES, 1))
    with _scope(strategy):
        keras.utils.set_random_seed(5)
        inputs = {
            "age": keras.Input((1,), name="age"),
            "city": keras.Input((1,), dtype="string", name="city"),
            "street": keras.Input((1,), dtype="string", name="street"),
        }
        scaled = keras.layers.Normalization()
        scaled.adapt(age)
        one_hot = keras.layers.StringLookup(vocabulary=list(CITIES), output_mode="one_hot")(inputs["city"])
        hashed = keras.layers.Hashing(num_bins=8, output_mode="one_hot")(inputs["street"])
        hidden = keras.layers.Concatenate()([scaled(inputs["age"]), one_hot, hashed])
        hidden = keras.layers.Dense(9, activation="relu")(hidden)
        outputs = (
            keras.layers.Dense(1, name="income")(hidden),
            keras.layers.Dense(1, activation="sigmoid", name="moves")(hidden),
        )
        model = model_class(inputs, outputs)
        model.compile(
            optimizer=keras.optimizers.RMSprop(0.005),
            loss={"income": "mae", "moves": "binary_crossentropy"},
            metrics={"moves": ["accuracy"]},
            **more,
        )
    data = tf.data.Dataset.from_tensor_slices((rows, (income, moves)))
    return Trained(model, model.fit(data.batch(BATCH), epochs=4, verbose=0).history)


def fine_tuned(model_class: type[keras.Model], strategy: tf.distribute.Strategy | None = None, **more: Any) -> Trained:
    """A model from a `.keras` file: first frozen below new heads, then its last layer trained with them."""
    random = np.random.RandomState(6)
    pictures = random.normal(size=(EXAMPLES, 8, 8, 1))
    targets = {"bright": pictures.mean((1, 2, 3))[:, np.newaxis] > 0, "half": pictures[:, :4].mean((1, 2))}
    with _scope(strategy), tempfile.TemporaryDirectory() as folder:
        keras.utils.set_random_seed(6)
        old = keras.models.load_model(_trained_before(pathlib.Path(folder) / "before.keras"))
        trunk = keras.Model(old.input, old.layers[-2].output)
        trunk.trainable = False
        inputs = keras.Input((8, 8, 1))
        features = trunk(inputs, training=False)
        bright = keras.layers.Dense(1, activation="sigmoid", name="bright")(features)
        model = model_class(inputs, {"bright": bright, "half": keras.layers.Dense(1, name="half")(features)})
    losses = {"bright": "binary_crossentropy", "half": "mse"}
    data = {"x": pictures, "y": targets, "batch_size": BATCH, "shuffle": False, "verbose": 0}
    with _scope(strategy):
        model.compile(optimizer=keras.optimizers.Adam(0.01), loss=losses, **more)
    model.fit(**data, epochs=2)
    trunk.layers[-1].trainable = True
    with _scope(strategy):
        model.compile(optimizer=keras.optimizers.Adam(0.001), loss=losses, metrics={"bright": "accuracy"}, **more)
    return Trained(model, model.fit(**data, epochs=4, initial_epoch=2).history)


def _trained_before(path: pathlib.Path) -> pathlib.Path:
    """Writes a model with batch normalization and one head, and returns where it is."""
    inputs = keras.Input((8, 8, 1))
    hidden = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    hidden = keras.layers.Flatten()(keras.layers.BatchNormalization()(hidden))
    hidden = keras.layers.Dense(6, activation="tanh")(hidden)
    keras.Model(inputs, keras.layers.Dense(3)(hidden)).save(path)
    return path


def image_and_table_examples() -> dict[str, Examples]:
    """The data of `image_and_table`, for the command line."""
    return dict.fromkeys(("train", "validation"), Examples(*image_and_table_arrays()))


def text_examples() -> dict[str, Examples]:
    """The data of `text`, for the command line."""
    return dict.fromkeys(("train", "validation"), Examples(*text_arrays()))


def _scope(strategy: tf.distribute.Strategy | None) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if strategy is None else strategy.scope()


SCRIPTS = {
    script.__name__: script
    for script in (photographs, list_of_outputs, image_and_table, text, preprocessing_inside, fine_tuned)
}
