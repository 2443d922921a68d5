"""The configuration: settings, rules, loading, what may change on resume."""
