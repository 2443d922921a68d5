"""Compares methods: every one is trained with the same budget, split and start, and with several seeds.

The package can be called: `trainer.compare(config, ["weighted", "pcgrad"])` is the public function, and the command's
module has its name.
"""

import importlib
import sys
import types
from typing import Any


class _Callable(types.ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return importlib.import_module("trainer.compare.calling").compare(*arguments, **options)


compare = sys.modules[__name__]
compare.__class__ = _Callable
