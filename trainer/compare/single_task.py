"""The configuration in which one loss of several is trained alone: the reference for what training together costs."""

from collections.abc import Collection, Mapping
from typing import Any

from trainer.common import schema
from trainer.config import loading, monitors, paths
from trainer.config.loss_settings import LossConfig
from trainer.config.settings import Config

METHOD = "sum"  # of one loss: that loss
_SEGMENT, _LOSS = "segment", "loss"


def tasks(config: Config) -> tuple[str, ...]:
    """Returns the losses that are trained at all, those whose weight is not 0."""
    return tuple(name for name, loss in config.losses.items() if loss.weight != 0)


def alone(config: Config, loss: str) -> Config:
    """Returns the configuration with one of its losses, and what belongs to that, on the same data and model.

    All heads stay, so that the variables begin with the same values. What watches values of other losses watches this
    one's. Metrics without a loss stay where they are of a head that it reads. Hooks are left out: they read values by
    the names of all losses, and may end a run.

    Raises:
      ConfigError: the loss cannot be trained so.
    """
    tree = schema.as_dict(config)
    kept = config.losses[loss]
    heads = _heads(kept)
    tree["losses"] = {loss: tree["losses"][loss] | {"weight": 1.0}}
    tree["metrics"] = {name: each for name, each in tree["metrics"].items() if each["head"] in heads}
    names = {*config.losses, *config.metrics}
    for field, monitor in monitors.of(config).items():
        if monitor is not None:
            own = {loss, *tree["metrics"]}
            tree[field] |= _watched(loss, own, names, monitor)
    # With one loss there is one backward pass, whichever way the configuration reduces.
    tree |= {"combine": {"name": METHOD}, "reduction": "per_loss", "probe_every": None, "hooks": []}
    return loading.resolve(tree)


def _heads(loss: LossConfig) -> set[str | None]:
    read = (paths.parse(text) for text in (loss.reads or {}).values())
    return {loss.head, *(path.name for path in read if path.kind == paths.HEADS)} - {None}


def _watched(loss: str, own: Collection[str], names: Collection[str], monitor: monitors.MonitorConfig) -> dict:
    """The changes by which a monitor watches nothing of losses that are left out."""
    found = monitors.expression(monitor)
    watched = [monitor.metric] if found is None else found.names
    places = [_place(name, names) for name in watched]
    if all(owner is None or owner in own for _, owner in places):
        return {}
    splits = {split for split, _ in places}
    prefix = f"{splits.pop()}/" if len(splits) == 1 and splits != {""} else ""
    changed: Mapping[str, Any] = {"metric": f"{prefix}{_LOSS}/{loss}", "mode": "min"}
    return {**changed, **({"min_delta": 0.0} if hasattr(monitor, "min_delta") else {})}  # it is in another unit


def _place(name: str, names: Collection[str]) -> tuple[str, str | None]:
    """The split of a reported value, empty for validation, and the loss or metrics that it is of, if one's."""
    parts = name.split("/")
    split = "" if parts[0] in (_LOSS, _SEGMENT, monitors.TOTAL_LOSS) or parts[0] in names else parts.pop(0)
    if parts[:1] == [_SEGMENT]:
        parts = parts[2:]
    if parts[:1] == [_LOSS]:
        parts = parts[1:]
    return split, parts[0] if parts and parts[0] in names else None
