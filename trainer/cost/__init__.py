"""The cost of a step, predicted from the configuration: operations, bytes reduced, seconds."""
