"""What is asked: a question's configuration, from its file to an immutable plan of trials.

A config file starts from `base` and, for AlexNet on small data, `small_data`.
"""

from alexnet_jax.config.presets import base, short_name, small_data

__all__ = ["base", "short_name", "small_data"]
