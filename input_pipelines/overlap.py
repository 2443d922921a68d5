"""Examples that are both to train and to validate on: said where the splits are the same, else refused."""

from collections.abc import Mapping

from input_pipelines.configuration import TRAIN, VALIDATION, SourceConfig
from trainer.common.errors import ConfigError


def notes(sources: Mapping[str, SourceConfig], fingerprints: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    """Lines about sources whose splits hold the same examples, as whoever tries a model on a few of them wants it.

    Args:
      sources: the configuration's key of a source → the source.
      fingerprints: the same key → split → its fingerprint.

    Raises:
      ConfigError: the examples to validate on are those of another source's training split.
    """
    strict = [field for field, source in sources.items() if not source.may_overlap]
    trains = {fingerprints[field][TRAIN]: field for field in reversed(strict)}
    same = [field for field in strict if fingerprints[field][TRAIN] == fingerprints[field][VALIDATION]]
    for field in strict:
        other = trains.get(fingerprints[field][VALIDATION])
        if other is not None and field not in same:
            reason = f"holds the examples of the training split of {other}; if that is meant, set {_key(field)}"
            raise ConfigError(f"{field}.splits.{VALIDATION}", ConfigError.ABSENT, reason)
    return tuple(
        f"{field}: the examples to validate on are those to train on; if that is meant, set {_key(field)}"
        for field in same
    )


def _key(field: str) -> str:
    return f"{field}.may_overlap=True"
