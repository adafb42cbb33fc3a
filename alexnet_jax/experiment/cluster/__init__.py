"""The trials of an experiment as tasks on Ray: many devices, many machines."""
