"""Experiments: from a configuration to a run folder with records and a report."""
