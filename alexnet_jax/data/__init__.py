"""Bytes on disk -> batches: the only place that imports TensorFlow, and never JAX."""

import os

# Before TensorFlow is first imported: its notices say nothing to a user, and its errors
# are raised as well as written; and looking for the old Keras, in vain, spares importing
# the new: 7 s instead of 10.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
