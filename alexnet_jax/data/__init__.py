"""The way of one image, from bytes on disk to batches.

1. `open` chooses the dataset by its name: `digits` and `npz` (`arrays`), `folder`, or
   `tfds` (which reads its `record_files`). Each gives encoded bytes, a label and an
   index (`types`).
   `prepared.reader` replaces them by images that were rescaled before, if there are any.
2. `pipeline` decides which example each step needs (`sampling`) and draws its random
   crop, flip and lighting (`augmentation`).
3. `loading` takes images that are in memory as they are, and crops and mirrors them
   (`rescaled`). Of others, `decoding` reads the bytes with many threads (`stream`),
   decodes them, rescales the shorter side to 256, and crops and mirrors the central
   256 x 256 (`images`).
4. `pipeline` hands over uint8 batches with a lighting offset of three floats per image.
   Evaluation gets whole rescaled images, of which the device takes the center crop or
   ten crops.

`statistics` computes the mean image and the color components of the training set.

This is the only package that imports TensorFlow, where files are to be decoded, and it
never imports JAX.
"""
