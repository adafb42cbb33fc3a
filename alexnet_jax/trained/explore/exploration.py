"""Collects what the page of the command `explore` shows about a trained network.

Memory is bounded whatever the dataset: of the pass over the validation images only counts,
labels and the most confident mistakes are kept, and activations are computed for the chosen
images only.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from alexnet_jax.data.types import Source
from alexnet_jax.progress import Progress
from alexnet_jax.trained.explore import chosen_images, network_facts, similar_images
from alexnet_jax.trained.explore.error_survey import survey
from alexnet_jax.trained.explore.explored import Compared, Explored, UnitShares
from alexnet_jax.trained.explore.picked_examples import (
    OpenedData,
    evenly_spaced,
    opened,
)
from alexnet_jax.trained.inspection import dead_or_saturated
from alexnet_jax.trained.trained_network import TrainedNetwork

UNIT_IMAGES = 1024  # on which dead units are counted
SIMILAR = 6  # training images beside a chosen one


def explored(
    network: TrainedNetwork,
    source: Source | None,
    files: Sequence[str],
    *,
    without_data: str = "",
    shows_progress: bool = False,
) -> Explored:
    """Inspects a network.

    Args:
      source: the dataset; None if there is none: then all that it takes no data for.
      files: image files to show; if empty, images of the dataset's validation split.
      without_data: why there is no dataset, in a sentence.
      shows_progress: on standard error.

    Raises:
      UserError: if the dataset has a class that the network does not know, one of its
        images cannot be read, or none of the files can.
    """
    given = chosen_images.given_images(network, files) if files else None
    held: dict[str, Any] = {}
    if source is not None:
        data = opened(source, network.settings.data, network.class_names)
        with Progress(0, shown=shows_progress) as progress:
            held = _of_data(network, data, given, progress)
    else:
        given = given or chosen_images.nothing_given(network)
        held["chosen"] = chosen_images.looked_into(network, given)
        held["choice"] = given.choice
    return Explored(
        title=network_facts.short_origin(network.origin),
        facts=network_facts.facts(network),
        parameters=network_facts.num_parameters(network),
        num_classes=len(network.class_names),
        layers=network_facts.layer_shapes(network),
        towers=network_facts.tower_views(network),
        unread=given.unread if given else (),
        without_data=without_data,
        **held,
    )


def _of_data(
    network: TrainedNetwork,
    data: OpenedData,
    given: chosen_images.PickedImages | None,
    progress: Progress,
) -> dict[str, Any]:
    """The fields of `Explored` that take the dataset, and the chosen images."""
    available = data.train.split.num_examples
    layer = network.compared_layer
    shapes = {each.name: each.shape for each in network_facts.layer_shapes(network)}
    compared = similar_images.compared_examples(available, shapes[layer])
    test_images = data.validation.split.num_examples
    for_units = evenly_spaced(test_images, UNIT_IMAGES)
    progress.set_total(test_images + len(for_units) + len(compared))

    progress.begin("errors")
    errors, classes = survey(network, data, advance=progress.advance)
    progress.begin("units")
    batches = data.validation.batches(for_units, progress.advance)
    shares = dead_or_saturated(network, (images for images, _ in batches))
    given = given or chosen_images.of_dataset(network, data.validation, classes)
    chosen = chosen_images.looked_into(network, given)
    progress.begin("similar images")
    similar = similar_images.similar_images(
        network,
        given.pixels,
        data.train,
        compared,
        count=SIMILAR,
        advance=progress.advance,
    )
    source = data.source
    same = source.fingerprint == network.trained_on.fingerprint
    return {
        "chosen": [
            dataclasses.replace(image, similar=near)
            for image, near in zip(chosen, similar, strict=True)
        ],
        "choice": given.choice,
        "errors": errors,
        "units": UnitShares(network.settings.model.activation, shares, len(for_units)),
        "compared": Compared(layer, len(compared), available, source.name, same)
        if available
        else None,
        "warnings": warnings_of_data(network, source),
    }


def warnings_of_data(network: TrainedNetwork, source: Source) -> list[str]:
    """What a reader has to know where these are not the data of the training."""
    trained_on = network.trained_on
    if source.fingerprint == trained_on.fingerprint:
        return []
    if source.name == trained_on.dataset:
        return [
            f"The dataset {source.name} is not as it was when the network was trained: "
            "images were added, removed or changed. Some of those that count as new to "
            "the network here may be ones that it was trained on."
        ]
    if not source.train.num_examples:
        return [
            f"The errors on this page are of {source.name}; the network was trained on "
            f"{trained_on.dataset}. {source.name} has no training images, so that no "
            "similar ones are shown."
        ]
    return [
        f"The errors and the similar images on this page are of {source.name}; the network "
        f"was trained on {trained_on.dataset}."
    ]
