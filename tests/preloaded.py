"""Imports what all programs of the fork server of `tests/forked.py` find imported.

Keras comes first, as in a program of the project, so that `FIRST` tells what a run loads before anything else needs it.
"""

import sys

import sklearn  # noqa: F401  (a program that has it before gets the rest of it all the same)

from trainer import command_line

command_line.import_keras()


FIRST = frozenset(sys.modules)

import matplotlib.pyplot  # noqa: E402, F401
import sklearn.datasets  # noqa: E402
import sklearn.metrics  # noqa: E402, F401
import tensorboard.summary  # noqa: E402, F401

import input_pipelines.sources.catalogue  # noqa: E402, F401
