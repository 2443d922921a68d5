"""Describes an experiment before it is trained: data, model, losses, method, optimizers, cost of a step.

The package can be called: `trainer.describe(config)` is the public function, and the command's module has its name.
"""

import importlib
import sys
import types
from typing import Any


class _Callable(types.ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return importlib.import_module("trainer.api.description").describe(*arguments, **options)


describe = sys.modules[__name__]
describe.__class__ = _Callable
