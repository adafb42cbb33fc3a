"""The commands that use trained networks: `python -m alexnet_jax COMMAND`."""
