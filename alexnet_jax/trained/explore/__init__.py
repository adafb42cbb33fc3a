"""A page to inspect a trained network: what it shows, and how it is written."""
