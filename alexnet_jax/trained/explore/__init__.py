"""A page to look into a trained network: what it shows, and how it is written."""
