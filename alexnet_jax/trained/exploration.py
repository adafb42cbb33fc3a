"""Collects what the page of the command `explore` shows about a trained network.

Memory is bounded whatever the dataset: of the pass over the validation images only counts,
labels and the most confident mistakes are kept, and activations are computed for the chosen
images only.
"""

from collections.abc import Callable, Sequence
from typing import Any

from alexnet_jax.data.rescaled import RescaledSplit
from alexnet_jax.data.types import Source
from alexnet_jax.progress import Progress
from alexnet_jax.trained import chosen_images, network_facts, similar_images
from alexnet_jax.trained.activations import layer_shapes
from alexnet_jax.trained.class_names import match
from alexnet_jax.trained.error_survey import shown_errors, survey
from alexnet_jax.trained.explored import Compared, Explored, TowerView, UnitShares
from alexnet_jax.trained.inspection import dead_or_saturated
from alexnet_jax.trained.kernel_figure import scaled, towers_of
from alexnet_jax.trained.picked_examples import evenly_spaced, picked
from alexnet_jax.trained.trained_network import TrainedNetwork

UNIT_IMAGES = 1024  # on which dead units are counted
SIMILAR = 6  # training images beside a chosen one


def explored(
    network: TrainedNetwork,
    source: Source | None,
    files: Sequence[str],
    *,
    without_data: str = "",
    progress: Progress | None = None,
) -> Explored:
    """Looks into a network.

    Args:
      source: the dataset; None if there is none: then all that it takes no data for.
      files: image files to show; if empty, images of the dataset's validation split.
      without_data: why there is no dataset, in a sentence.

    Raises:
      UserError: if the dataset has a class that the network does not know, one of its
        images cannot be read, or none of the files can.
    """
    given = chosen_images.given_images(network, files) if files else None
    held: dict[str, Any] = {}
    if source is not None:
        held = _of_data(network, source, given, progress or Progress(0, shown=False))
        given = held.pop("given")
    given = given or chosen_images.nothing_given(network)
    layers = layer_shapes(network)
    return Explored(
        title=network_facts.short_origin(network.origin),
        facts=network_facts.facts(network),
        parameters=network_facts.num_parameters(network),
        num_classes=len(network.class_names),
        layers=layers,
        towers=[
            TowerView(scaled(tower.kernels), tower.dead, tower.color_share)
            for tower in towers_of(network)
        ],
        chosen=held.pop("chosen", None) or chosen_images.looked_into(network, given),
        choice=given.choice,
        unread=given.unread,
        without_data=without_data,
        **held,
    )


def _of_data(
    network: TrainedNetwork,
    source: Source,
    given: chosen_images.PickedImages | None,
    progress: Progress,
) -> dict[str, Any]:
    """The fields of `Explored` that take the dataset, and the chosen images."""
    data = network.settings.data
    train, split = (
        RescaledSplit(each, data.rescale_size, data.rescale)
        for each in (source.train, source.validation)
    )
    index = match(source.class_names, network.class_names, dataset=source.name).index
    layer = similar_images.compared_layer(network)
    shape = next(each.shape for each in layer_shapes(network) if each.name == layer)
    compared = similar_images.compared_examples(train.num_examples, shape)
    for_units = evenly_spaced(split.num_examples, UNIT_IMAGES)
    progress.set_total(split.num_examples + len(for_units) + len(compared))

    progress.begin("errors")
    errors, collector = survey(network, source, index, advance=progress.advance)
    progress.begin("units")
    units = UnitShares(
        network.settings.model.activation,
        dead_or_saturated(network, _counted(split, for_units, progress.advance)),
        len(for_units),
    )
    if given is None:
        given = chosen_images.of_dataset(network, split, collector.classes)
    chosen = chosen_images.looked_into(network, given)
    progress.begin("similar images")
    found = similar_images.nearest_images(
        network, given.pixels, train, compared, count=SIMILAR, advance=progress.advance
    )
    names = [network.class_names[k] for k in index]
    same = source.fingerprint == network.trained_on.fingerprint
    return {
        "given": given,
        "chosen": chosen_images.with_similar(network, chosen, train, found, names),
        "errors": shown_errors(
            network,
            split,
            errors,
            collector.mistakes(),
            paper=network_facts.paper_words(errors),
        ),
        "units": units,
        "compared": Compared(
            layer, len(compared), train.num_examples, source.name, same
        ),
        "warnings": [] if same else [_other_data(network, source)],
    }


def _counted(
    split: RescaledSplit, examples: list[int], advance: Callable[[int], None]
) -> Any:
    for images, _ in picked(split, examples):
        yield images
        advance(len(images))


def _other_data(network: TrainedNetwork, source: Source) -> str:
    trained_on = network.trained_on.dataset
    if source.name == trained_on:
        return (
            f"The dataset {source.name} is not as it was when the network was trained: "
            "images were added, removed or changed. Some of those that count as new to the "
            "network here may be ones that it was trained on."
        )
    return (
        f"The errors and the similar images on this page are of {source.name}; the network "
        f"was trained on {trained_on}."
    )
