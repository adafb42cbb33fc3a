"""`python -m alexnet_jax.main`, printing what its process reads and saves.

Run by tests/training/test_distributed.py, with the arguments of main.
"""

import sys

from alexnet_jax import cli, main
from alexnet_jax.training import checkpoint, checkpoint_files, devices

save, place_batch = checkpoint.Checkpoints.save, devices.Devices.place_batch


def tell(line):
    """A whole line at once: two threads print here, and Gloo does."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def reported_save(self, state, position):
    if position.counts or position.step:  # not where the folder is only tried
        tell(f"saved {position.step} {checkpoint_files.checksum(state)}")
    save(self, state, position)


def reported_batch(self, batch, *, of_trials=False):
    if of_trials:  # of training
        tell(f"read {sorted(batch['example'].ravel().tolist())}")
    return place_batch(self, batch, of_trials=of_trials)


checkpoint.Checkpoints.save = reported_save
devices.Devices.place_batch = reported_batch
if __name__ == "__main__":
    sys.argv[0] = "main"
    cli.run(main.main)
