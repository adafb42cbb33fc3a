"""torchvision's AlexNet and its preprocessing, from image files to answers, in PyTorch.

Pillow decodes and rescales as torchvision's transforms have it: shorter side 256, bilinear,
center crop 224. Images stay uint8 until they are in a batch, which is then scaled at once:
faster than ToTensor and Normalize one by one.
"""

import concurrent.futures
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import PIL.Image

RESCALE_SIZE, CROP_SIZE = 256, 224
MEAN, SCALE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DECODERS = 4  # threads, as many as ours

Answers = list[list[tuple[int, float]]]  # of each image: classes and probabilities


def pillow_crop(path: str) -> np.ndarray:
    """An image's center crop, uint8 (224, 224, 3), by Pillow's calls of torchvision."""
    with PIL.Image.open(path) as opened:
        image = opened.convert("RGB")
    width, height = image.size
    shorter = min(width, height)
    sides = (RESCALE_SIZE * width // shorter, RESCALE_SIZE * height // shorter)
    image = image.resize(sides, PIL.Image.Resampling.BILINEAR)
    x, y = (round((side - CROP_SIZE) / 2) for side in sides)
    return np.array(image.crop((x, y, x + CROP_SIZE, y + CROP_SIZE)))


class PillowFiles:
    """Image files as PyTorch's DataLoader takes a dataset."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        return pillow_crop(self.paths[index])


def torchvision_alexnet(torch: Any, num_classes: int) -> Any:
    """The layers of torchvision.models.alexnet, for images of 224 x 224 pixels."""
    nn = torch.nn

    def convolved(inputs: int, outputs: int, *form: int) -> tuple[Any, Any]:
        return nn.Conv2d(inputs, outputs, *form), nn.ReLU(inplace=True)

    def dense(inputs: int, outputs: int) -> tuple[Any, Any, Any]:
        return nn.Dropout(0.5), nn.Linear(inputs, outputs), nn.ReLU(inplace=True)

    return nn.Sequential(
        *convolved(3, 64, 11, 4, 2),
        nn.MaxPool2d(3, 2),
        *convolved(64, 192, 5, 1, 2),
        nn.MaxPool2d(3, 2),
        *convolved(192, 384, 3, 1, 1),
        *convolved(384, 256, 3, 1, 1),
        *convolved(256, 256, 3, 1, 1),
        nn.MaxPool2d(3, 2),
        nn.Flatten(),
        *dense(9216, 4096),
        *dense(4096, 4096),
        nn.Linear(4096, num_classes),
    ).eval()


class TorchPredictions:
    """Classifies all of some image files by PyTorch; each form is a way to decode them.

    Args:
      torch: the module.
      paths: the files.
      batch_size: images of a batch.
      num_classes: outputs of the network.
    """

    def __init__(
        self, torch: Any, paths: Sequence[str], batch_size: int, num_classes: int
    ) -> None:
        self.torch, self.paths, self.batch_size = torch, paths, batch_size
        torch.manual_seed(0)
        self.network = torchvision_alexnet(torch, num_classes)
        self.network = self.network.to(memory_format=torch.channels_last)
        self.mean, self.scale = (
            torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, SCALE)
        )

    def forms(self) -> dict[str, Callable[[], Answers]]:
        """By name: all of the files to their answers, once."""
        found: dict[str, Callable[[], Answers]] = {
            "torch threads": lambda: self.answers(self.from_threads())
        }
        for workers in (0, 1, 2):
            loader = self.torch.utils.data.DataLoader(
                PillowFiles(self.paths),
                batch_size=self.batch_size,
                num_workers=workers,
                persistent_workers=workers > 0,
                multiprocessing_context="spawn" if workers else None,
            )
            name = f"torch {workers} workers" if workers else "torch in line"
            found[name] = lambda loader=loader: self.answers(loader)  # type: ignore[misc]
        return found

    def from_threads(self) -> Iterator[Any]:
        """The batches, decoded by threads beside the network, some ahead."""
        ahead: deque[concurrent.futures.Future[np.ndarray]] = deque()
        with concurrent.futures.ThreadPoolExecutor(DECODERS) as threads:
            waiting = iter(self.paths)
            while True:
                missing = 2 * self.batch_size - len(ahead)
                for path in itertools.islice(waiting, missing):
                    ahead.append(threads.submit(pillow_crop, path))
                if not ahead:
                    return
                count = min(self.batch_size, len(ahead))
                crops = [ahead.popleft().result() for _ in range(count)]
                yield self.torch.from_numpy(np.stack(crops))

    def answers(self, batches: Any) -> Answers:
        """The five most probable classes of each image of uint8 batches (n, 224, 224, 3)."""
        found: Answers = []
        with self.torch.inference_mode():
            for batch in batches:
                x = batch.permute(0, 3, 1, 2).float().div_(255)  # channels_last already
                x = x.sub_(self.mean).div_(self.scale)
                best = self.network(x).softmax(dim=1).topk(5)
                found += [
                    list(zip(classes, values, strict=True))
                    for classes, values in zip(
                        best.indices.tolist(), best.values.tolist(), strict=True
                    )
                ]
        return found
