"""What is collected about a network is what slow loops find."""

import dataclasses

import numpy as np
import PIL.Image
import pytest
from few_digits import few_digits

from alexnet_jax.errors import UserError
from alexnet_jax.trained.explore import (
    activations,
    chosen_images,
    error_survey,
    explore_command,
    network_facts,
    picked_examples,
    similar_images,
)
from alexnet_jax.trained.explore.exploration import explored, warnings_of_data
from alexnet_jax.trained.inspection import dead_or_saturated
from alexnet_jax.trained.locate import load
from alexnet_jax.trained.measuring import class_rows, measure

TRAIN, HELD_OUT = 60, 90


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network(run_folder):
    return load(run_folder / "ReLU/seed0")


@pytest.fixture(scope="module")
def source():
    return few_digits(train=TRAIN, held_out=HELD_OUT)


@pytest.fixture(scope="module")
def content(network, source):
    return explored(network, source, [])


@pytest.fixture(scope="module")
def probabilities(network, source):
    split = source.validation
    return network.probabilities([split.read(k)[0] for k in range(HELD_OUT)])


@pytest.fixture(scope="module")
def labels(source):
    return [source.validation.read(k)[1] for k in range(HELD_OUT)]


# --- Errors -----------------------------------------------------------------------


def test_mistakes_are_the_most_confident_of_a_slow_loop(
    content, probabilities, labels, source
):
    expected = []
    for k, (row, label) in enumerate(zip(probabilities, labels, strict=True)):
        said = int(np.argmax(row))
        if said != label:
            expected.append((-row[said], k, str(label), str(said), row[label]))
    expected = sorted(expected)[: error_survey.MOST_MISTAKES]
    shown = content.errors.mistakes
    assert len(shown) == error_survey.MOST_MISTAKES < content.errors.top1_wrong
    for one, (minus, k, true, said, of_true) in zip(shown, expected, strict=True):
        found = one.mistake
        assert (found.example, found.true_class, found.taken_for) == (k, true, said)
        assert found.probability == pytest.approx(-minus, rel=1e-4)
        assert found.true_probability == pytest.approx(of_true, rel=1e-4)
        assert one.name == source.validation.where(k)


def test_mistakes_of_one_probability_are_those_that_come_first():
    collector = error_survey.MistakeCollector(("a", "b"), 3)
    even = np.full((4, 2), 0.5, np.float32)
    for _ in range(
        3
    ):  # the first guess is "a": images 1, 2 and 3 of each batch are wrong
        collector.add(even, np.array([0, 1, 1, 1]))
    assert [one.example for one in collector.mistakes()] == [1, 2, 3]
    assert collector.classes.tolist() == [0, 1, 1, 1] * 3


def test_errors_by_class_are_those_of_evaluate(content, network, source):
    errors, found = measure([network], source), content.errors
    assert found.top1_wrong == errors.top1_errors
    assert found.top5_wrong == errors.top5_errors
    assert found.loss == errors.loss
    assert (found.confusion == errors.confusion).all()
    assert [(row.name, row.examples, row.wrong) for row in found.by_class] == [
        (row["class"], row["examples"], row["top1_errors"])
        for row in class_rows(errors)
    ]


def test_many_classes_have_no_confusion_matrix(content, monkeypatch, network, source):
    monkeypatch.setattr(error_survey, "CONFUSION_CLASSES", 9)
    data = picked_examples.opened(source, network.settings.data, network.class_names)
    found, _ = error_survey.survey(network, data)
    assert content.errors.confusion.shape == (10, 10)
    assert found.confusion.shape == (0, 0)


# --- Images -----------------------------------------------------------------------


def test_the_first_images_of_evenly_spaced_classes_are_chosen(
    content, labels, probabilities, source
):
    classes = [one.true_class for one in content.chosen]
    assert classes == ["0", "1", "3", "4", "5", "6", "8", "9"]
    for one in content.chosen:
        k = labels.index(int(one.true_class))
        assert one.name == source.validation.where(k)
        best = np.argsort(-probabilities[k])[:5]
        assert [guess.name for guess in one.guesses] == [str(each) for each in best]
        assert [guess.probability for guess in one.guesses] == pytest.approx(
            probabilities[k][best], rel=1e-4
        )


def test_of_two_classes_two_images_each_are_chosen(network, source):
    data = picked_examples.opened(source, network.settings.data, network.class_names)
    classes = np.array([7, 3, 7, 7, 3, 3])
    found = chosen_images.of_dataset(network, data.validation, classes)
    assert found.true_classes == ["3", "3", "7", "7"]
    assert found.names == [source.validation.where(k) for k in (1, 4, 0, 2)]


def test_activations_are_the_strongest_channels_of_each_layer(content, network, source):
    (index,) = [
        k
        for k in range(HELD_OUT)
        if source.validation.where(k) == content.chosen[2].name
    ]
    image = [source.validation.read(index)[0]]
    for layer in content.chosen[2].layers:
        outputs = network.features(image, layer.name)[0]
        assert layer.shape == outputs.shape
        assert layer.active == pytest.approx((outputs != 0).mean(), abs=0.01)
        if outputs.ndim == 3:
            strength = [abs(outputs[..., k]).mean() for k in range(outputs.shape[2])]
            shown = [outputs[..., k] for k in layer.numbers]
            assert len(shown) == min(activations.CHANNELS_SHOWN, outputs.shape[2])
        else:
            strength, shown = outputs, [outputs[k] for k in layer.numbers]
            assert layer.labels == tuple(str(k) for k in layer.numbers)
        weakest = min(strength[k] for k in layer.numbers)
        left_out = set(range(outputs.shape[-1])) - set(layer.numbers)
        assert all(strength[k] <= weakest + 1e-4 for k in left_out)
        np.testing.assert_allclose(layer.maps, shown, rtol=1e-3, atol=1e-4)


def test_similar_images_are_those_of_a_slow_search(content, network, source):
    train, layer = source.train, content.compared.layer
    assert layer == "conv3"  # the last hidden layer: the network has no fc7
    others = network.features([train.read(k)[0] for k in range(TRAIN)], layer)
    for one in content.chosen[:3]:
        (k,) = [k for k in range(HELD_OUT) if source.validation.where(k) == one.name]
        own = network.features([source.validation.read(k)[0]], layer)[0]
        distances = [float(np.sqrt(((each - own) ** 2).sum())) for each in others]
        nearest = np.argsort(distances, kind="stable")[: len(one.similar)]
        assert [each.name for each in one.similar] == [train.where(k) for k in nearest]
        assert [each.class_name for each in one.similar] == [
            str(train.read(k)[1]) for k in nearest
        ]
        assert [each.distance for each in one.similar] == pytest.approx(
            [distances[k] for k in nearest], rel=1e-3
        )


def test_features_that_are_too_large_are_compared_for_fewer_images():
    assert similar_images.compared_examples(50, (4096,)) == list(range(50))
    of_many = similar_images.compared_examples(1_281_167, (4096,))
    assert (len(of_many), of_many[0], of_many[-1]) == (10_000, 0, 1_281_166)
    assert len(set(of_many)) == 10_000
    large = similar_images.compared_examples(1_281_167, (13, 13, 256))
    assert len(large) * 13 * 13 * 256 * 4 <= similar_images.MOST_BYTES


def test_given_images_are_read_and_the_bad_ones_named(
    network, source, tmp_path, capsys
):
    for k in range(3):
        content, label = source.validation.read(k)
        (tmp_path / str(label)).mkdir(exist_ok=True)
        (tmp_path / str(label) / f"{k}.png").write_bytes(content)
    (tmp_path / "a broken.png").write_bytes(b"broken")
    files = sorted(map(str, tmp_path.rglob("*.png")))
    found = explored(network, None, files, without_data="The data is gone")
    labels = sorted((str(source.validation.read(k)[1]), f"{k}.png") for k in range(3))
    assert [(one.true_class, one.name) for one in found.chosen] == labels
    assert [name for name, _ in found.unread] == ["a broken.png"]
    assert (found.errors, found.units, found.compared) == (None, None, None)
    with pytest.raises(UserError, match="broken"):
        explored(network, None, [str(tmp_path / "a broken.png")])


def test_of_too_many_given_images_some_are_taken_and_it_says_so(network, tmp_path):
    for k in range(30):
        PIL.Image.new("L", (8, 8), k).save(tmp_path / f"{k:02}.png")
    found = chosen_images.given_images(network, sorted(map(str, tmp_path.iterdir())))
    assert len(found.names) == chosen_images.MOST_GIVEN
    assert (found.names[0], found.names[-1]) == ("00.png", "29.png")
    assert "30 images were given; these are 24" in found.choice


# --- The network ------------------------------------------------------------------


def test_facts_name_recipe_data_steps_and_protocol(content, network):
    facts = dict(content.facts)
    assert facts["Recipe"].startswith(f"{network.settings.recipe}: ReLU")
    assert facts["Trained on"] == "digits: 1,438 images of 10 classes"
    assert f"{network.step} steps of 16 images" in facts["Training"]
    in_training = facts["Errors, measured in training"]
    assert f"top-1 error {network.measured['top1_error']:.1%}" in in_training
    assert "center crop" in in_training
    assert content.parameters == sum(layer.parameters for layer in content.layers)
    assert content.title == f"run/ReLU/seed0@{network.step}"


def test_a_network_is_named_without_the_folders_above_its_run(run_folder, tmp_path):
    trial = run_folder / "ReLU/seed0"
    assert network_facts.short_origin(f"{trial}@best") == "run/ReLU/seed0@best"
    assert network_facts.short_origin(str(tmp_path / "a/b")) == "b"


def test_dead_units_are_counted_over_all_batches(network):
    """A kernel that only the second of two batches excites is not dead."""
    side = network.settings.data.rescale_size
    dark = np.zeros((2, side, side, 3), np.uint8)
    kernel = np.zeros_like(network.params["conv1"]["kernel"])
    kernel[..., 0] = 1.0
    bias = np.full(kernel.shape[-1], -1.0, np.float32)
    params = network.params | {"conv1": {"kernel": kernel, "bias": bias}}
    changed = dataclasses.replace(network, params=params)
    count = kernel.shape[-1]
    assert dead_or_saturated(changed, [dark])["conv1"] == 1.0
    both = dead_or_saturated(changed, [dark, dark + 255])
    assert both["conv1"] == pytest.approx(1 - 1 / count)


def test_other_data_than_in_training_is_pointed_out(content, network, source):
    assert content.warnings == []
    other = dataclasses.replace(source, fingerprint="another")
    (changed,) = warnings_of_data(network, other)
    assert "is not as it was" in changed
    renamed = dataclasses.replace(other, name="folder=x")
    (said,) = warnings_of_data(network, renamed)
    assert "are of folder=x; the network was trained on digits" in said


# --- The command ------------------------------------------------------------------


def test_an_output_that_cannot_be_written_is_refused_first(tmp_path, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("the network was read")

    monkeypatch.setattr(explore_command, "load", forbidden)
    (tmp_path / "folder.html").mkdir()
    for output, said in (
        ("page.png", r"ends in \.html"),
        (tmp_path / "no/page.html", "no such folder"),
        (tmp_path / "folder.html", "is a folder"),
        ("/proc/page.html", "cannot be written"),
    ):
        with pytest.raises(UserError, match=said):
            explore_command.explore("no network", output=str(output))
    with pytest.raises(UserError, match="No such image"):
        explore_command.explore(
            "no network", images=["/no/such.jpg"], output=str(tmp_path / "a.html")
        )
    assert [path.name for path in tmp_path.iterdir()] == ["folder.html"]


def test_a_folder_without_splits_is_measured_whole(run_folder, tmp_path):
    """It has no training images, among which similar ones could be sought."""
    split = few_digits(held_out=30).validation
    for k in range(30):
        content, label = split.read(k)
        path = tmp_path / f"images/{label}/{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    origin, page = str(run_folder / "ReLU/seed0"), tmp_path / "a.html"
    dataset = f"folder={tmp_path / 'images'}"
    assert explore_command.explore(origin, dataset=dataset, output=str(page)) == 0
    text = page.read_text()
    assert "30 images of the split “<bdi>all images</bdi>” of" in text
    assert "folder=images has no training images" in text
    assert 'id="mistakes"' in text
    assert 'id="similar"' not in text


def test_without_its_data_a_network_is_shown_as_far_as_possible(
    run_folder, tmp_path, monkeypatch, capsys
):
    def gone(*_, **__):
        raise UserError("No such folder: /home/someone/private.")

    monkeypatch.setattr("alexnet_jax.data.open.open_source", gone)
    page, origin = tmp_path / "a.html", str(run_folder / "ReLU/seed0")
    assert explore_command.explore(origin, output=str(page)) == 0
    text = page.read_text()
    assert "was not found" in text
    assert "private" not in text
    assert "private" in capsys.readouterr().err
    assert 'id="kernels"' in text
    assert 'id="mistakes"' not in text
    with pytest.raises(UserError, match="private"):  # the user has asked for it
        explore_command.explore(origin, dataset="folder=x", output=str(page))


@pytest.mark.slow
def test_two_calls_write_the_same_bytes(run_folder, tmp_path):
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    for page in pages:
        assert (
            explore_command.explore(str(run_folder / "tanh/seed0"), output=str(page))
            == 0
        )
    first, second = (page.read_bytes() for page in pages)
    assert first == second
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]
