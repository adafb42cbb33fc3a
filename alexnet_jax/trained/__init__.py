"""Trained networks in use: read from where they are, applied, measured and inspected."""
