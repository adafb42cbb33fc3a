"""The input pipelines that are compared do the same work."""

import contextlib

import numpy as np
import pytest

from benchmarks import input_baselines


@pytest.mark.slow
def test_each_pipeline_gives_full_batches_of_photographs(few_photographs):
    pipelines = input_baselines.input_pipelines(few_photographs, 5, None)
    assert {"ours, originals", "ours, JPEG cache", "ours, raw"} < set(pipelines)
    for name, open_pipeline in pipelines.items():
        with contextlib.closing(open_pipeline()) as batches:
            for _ in range(4):  # past the end of an epoch
                images = next(batches)
                assert images.shape == (5, 224, 224, 3)
        is_uint8 = name.startswith(("ours", "grain"))
        assert images.dtype == (np.uint8 if is_uint8 else np.float32)
        mean = images.mean() if is_uint8 else images.mean() * 57 + 116
        assert 60 < mean < 180, name  # neither black nor white


@pytest.mark.slow
def test_pillow_workers_load_the_same_images_as_one_process(few_photographs):
    paths = few_photographs.paths
    workers = input_baselines.PillowWorkers(1, 3)
    with contextlib.closing(workers):
        for _ in range(2):  # turns
            with contextlib.closing(workers.images(paths)) as batches:
                for batch, seed in zip(
                    input_baselines.shuffled_batches(paths, 3), range(3), strict=False
                ):
                    draws = np.random.default_rng(seed)
                    expected = [
                        input_baselines.pillow_image(path, draws) for path in batch
                    ]
                    np.testing.assert_array_equal(next(batches), expected)
