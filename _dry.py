import glob, sys, traceback
import tensorflow as tf
from trainer.compare import grid, single_task
from trainer.compare.plan_file import Cell
from trainer.config import loading
from trainer.run import experiment
from trainer.common.errors import ConfigError
skip = ("celeb_a","qm9","census_income","dsprites","shapes3d","multi_mnist","fashion_mnist","__init__")
for path in sorted(glob.glob("configs/*.py")):
    if any(s in path for s in skip): continue
    tree = loading.read_tree(path); config = loading.resolve(tree)
    for loss in single_task.tasks(config):
        try:
            b = experiment.build(grid.configuration(tree, Cell("sum", single_task=loss)), tf.distribute.get_strategy())
            tf.config.run_functions_eagerly(True)
            print("OK", path, loss, flush=True)
        except Exception as e:
            print("FAIL", path, loss, type(e).__name__, e, flush=True)
        tf.config.run_functions_eagerly(False)
