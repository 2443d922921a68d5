"""What a step costs, predicted from the configuration: operations, bytes reduced, seconds."""
