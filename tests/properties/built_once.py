"""Many runs of one configuration in a process, which need not be built and traced again for each of them."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from input_pipelines import saved_data
from trainer.config import loading
from trainer.config.settings import Config
from trainer.evaluation.evaluator import Evaluator
from trainer.output import plots
from trainer.run import experiment, train


@contextlib.contextmanager
def building_once() -> Iterator[None]:
    """Experiments of a configuration, number of replicas and statistics are built and traced once within this context.

    Every run but the first sets all of their variables: a checkpoint's.
    """
    kept: dict[Any, Any] = {}
    build, traced, built_evaluator = experiment.build, train._traced, Evaluator.build

    def once(key: Any, make: Callable[[], Any]) -> Any:
        if key not in kept:
            kept[key] = make()
        return kept[key]

    def building(
        config: Config, strategy: Any, saved: saved_data.SavedData | None = None, *rest: Any
    ) -> experiment.Experiment:
        of_config = loading.to_json(config), strategy.num_replicas_in_sync
        built = once((of_config, saved and saved_data.to_json(saved)), lambda: build(config, strategy, saved, *rest))
        kept.setdefault((of_config, saved_data.to_json(built.data.saved)), built)
        return built

    def tracing(built: experiment.Experiment, *rest: Any) -> Any:
        return once(("step", id(built)), lambda: traced(built, *rest))

    def evaluating(self: Evaluator) -> Any:
        return once(("evaluator", id(self)), lambda: built_evaluator(self))

    with (
        mock.patch.object(experiment, "build", building),
        mock.patch.object(train, "_traced", tracing),
        mock.patch.object(Evaluator, "build", evaluating),
        mock.patch.object(plots, "save_curves", return_value=None),
    ):
        yield
