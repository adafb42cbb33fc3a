"""Benchmarks of the layers, the train step, the input pipeline and whole runs."""
