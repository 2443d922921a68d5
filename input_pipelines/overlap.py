"""Refuses examples that are both to train and to validate on, unless the configuration allows it."""

from collections.abc import Mapping

from input_pipelines.configuration import TRAIN, VALIDATION, SourceConfig
from input_pipelines.feed.in_memory import InMemory
from input_pipelines.feed.splits import Split
from trainer.common.errors import ConfigError


def refuse(
    sources: Mapping[str, SourceConfig], built: Mapping[str, tuple[Mapping[str, Split], Mapping[str, str]]]
) -> tuple[str, ...]:
    """Lines about functions that give one object as both splits, which they can only do on purpose.

    Args:
      sources: the configuration's key of a source → the source.
      built: the same key → split → its examples, and split → its fingerprint.

    Raises:
      ConfigError: the examples to validate on are those of a training split, of any source.
    """
    strict = [field for field, source in sources.items() if not source.may_overlap]
    one = [field for field in strict if _are_one(built[field][0])]
    trains = {built[field][1][TRAIN]: field for field in strict}
    for field in strict:
        of_train = trains.get(built[field][1][VALIDATION])
        if of_train is not None and not (of_train == field and field in one):
            whose = "" if of_train == field else f" of {of_train}"
            reason = f"holds the examples of the training split{whose}; if that is meant, set {field}.may_overlap=True"
            raise ConfigError(f"{field}.splits.{VALIDATION}", ConfigError.ABSENT, reason)
    return tuple(
        f"{field}: the examples to validate on are those to train on; if that is meant, set {field}.may_overlap=True"
        for field in one
    )


def _are_one(splits: Mapping[str, Split]) -> bool:
    train, validation = splits[TRAIN], splits[VALIDATION]
    both = isinstance(train, InMemory) and isinstance(validation, InMemory)
    return both and train.examples is validation.examples
