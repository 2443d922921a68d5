"""The shapes and dtypes of the batches that Keras feeds, without taking one."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Element:
    """The form of what Keras feeds in every step.

    Attributes:
      spec: (inputs, targets, sample weights), each a structure of `tf.TensorSpec` of one replica's part, of any number
        of examples; None for what is not given.
      batch_size: examples of a whole global batch; None where that is not known before the first one.
    """

    spec: tuple[Any, Any, Any]
    batch_size: int | None

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for elements that the same traced step can take."""
        paths = keras.tree.flatten_with_path(self.spec)
        return tuple((path, spec and (spec.dtype.name, spec.shape.rank)) for path, spec in paths)


def of_iterator(iterator: Any) -> Element:
    """The element of one of Keras' iterators over epochs."""
    adapter, dataset = iterator.data_adapter, iterator._distributed_dataset
    spec = tf.nest.map_structure(_of_one_replica, dataset.element_spec)
    size = getattr(adapter, "batch_size", None) or _batched_by(adapter.get_tf_dataset())
    return Element(keras.utils.unpack_x_y_sample_weight(spec), size)


def of_batch(batch: Any) -> Element:
    """The element whose only batch is `batch`, of arrays or tensors."""
    flat = [each for each in keras.tree.flatten(batch) if each is not None]
    spec = keras.tree.map_structure(lambda each: None if each is None else _of_array(each), batch)
    return Element(keras.utils.unpack_x_y_sample_weight(spec), int(flat[0].shape[0]))


def _of_array(array: Any) -> tf.TensorSpec:
    dtype = keras.backend.standardize_dtype(getattr(array, "dtype", None) or tf.convert_to_tensor(array).dtype)
    return tf.TensorSpec((None, *array.shape[1:]), dtype)


def _of_one_replica(spec: Any) -> Any:
    """The specification of one replica's tensor, of any number of examples; None for what Keras turns into None."""
    spec = getattr(spec, "_value_specs", (spec,))[0]
    if isinstance(spec, tf.OptionalSpec) or not hasattr(spec, "shape"):
        return None
    if not isinstance(spec, tf.TensorSpec) or not spec.shape.rank:
        return spec
    return tf.TensorSpec((None, *spec.shape[1:]), spec.dtype)


def _batched_by(dataset: Any) -> int | None:
    """The size of the batches that a dataset was made of by `batch`; None where that is not known."""
    while dataset is not None:
        if (size := getattr(dataset, "_batch_size", None)) is not None:
            return None if (found := tf.get_static_value(size)) is None else int(found)
        dataset = getattr(dataset, "_input_dataset", None)
    return None


def symbolic(spec: Any) -> Any:
    """Keras' symbolic tensors of these shapes and dtypes."""
    return keras.tree.map_structure(lambda each: each and keras.KerasTensor(each.shape, each.dtype.name), spec)
