"""The classes of features that a folder of TFDS names, of which only trusted ones are imported."""

import contextlib
from collections.abc import Iterator

import tensorflow_datasets as tfds

from trainer.common.trust import Trust

_OWN = "tensorflow_datasets."


@contextlib.contextmanager
def only_trusted(trust: Trust, field: str, value: str | None) -> Iterator[None]:
    """Within this context TFDS makes no features of other code than its own and what is trusted.

    TFDS imports the module of every class that features.json names, however deep it is nested. It does so in one place,
    which is here asked first.

    Args:
      trust: whose features a folder may name.
      field: the configuration's key of the folder or dataset, for errors.
      value: its value.

    Raises:
      ConfigError: a folder names a class of the standard library, or of a part of this project that is never called.
      UntrustedError: it names one that is not trusted.
    """
    connector = tfds.features.FeatureConnector
    by_name = vars(connector)["cls_from_name"]

    def checked(cls: type, name: str) -> type:
        if not name.startswith(_OWN):
            trust.require(name.rpartition(".")[0], field, value, f"its features.json names {name}")
        return by_name.__get__(None, cls)(name)

    connector.cls_from_name = classmethod(checked)
    try:
        yield
    finally:
        connector.cls_from_name = by_name
