"""From a run that is there to what its exports need."""

from input_pipelines import configuration, raw_features
from input_pipelines.configuration import TRAIN, SourceConfig
from input_pipelines.rows import rows
from trainer.components import predicted_targets
from trainer.export.trained import Trained
from trainer.run import checks
from trainer.run import network as network_lib
from trainer.run.restored import Restored


def trained(restored: Restored, name: str, field: str, source: SourceConfig) -> Trained:
    """Returns the run as exports need it.

    Args:
      restored: the run.
      name: its directory as it was given.
      field: the configuration's key of the source whose data are to be answered.
      source: that source.

    Raises:
      ConfigError: a feature of it cannot be given without its files.
    """
    data, network = restored.kept.data, restored.network
    spec = network_lib.batch_spec(data.splits[TRAIN], None)
    if configuration.is_function(source.name):
        preparation, features = None, raw_features.of_inputs(data.splits[TRAIN].spec["inputs"])
    else:
        preparation = rows.for_inputs(restored.kept.preparations[field])
        features = raw_features.of(source, field, preparation, restored.kept.sources[field])
    heads = checks.outputs(network.model, spec["inputs"], restored.config.model.name)
    return Trained(
        name=name,
        step=restored.step,
        precision=restored.config.precision,
        model=network.model,
        spec=spec["inputs"],
        features=features,
        preparation=preparation,
        predicted=predicted_targets.build(network.losses, heads, spec["targets"], data.names, data.inverses),
    )
