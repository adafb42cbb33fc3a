"""Slow or independent implementations that tests compare the package with."""
