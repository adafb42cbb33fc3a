"""The command `neighbors`: on digits, with a small trained network."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from few_digits import few_digits

from alexnet_jax.data.digits import open_digits
from alexnet_jax.errors import UserError
from alexnet_jax.trained.locate import load
from alexnet_jax.trained.similar import (
    dataset_features,
    neighbor_figure,
)
from alexnet_jax.trained.similar.dataset_features import fingerprint
from alexnet_jax.trained.similar.nearest_images import NeighborSettings, neighbors
from alexnet_jax.trained.similar.neighbor_list import Neighbor, WithNeighbors, text
from alexnet_jax.trained.trained_network import TrainedNetwork

ROOT = Path(__file__).parents[2]
TRAIN = 60  # digits that are searched


@pytest.fixture(scope="module")
def trial(run_folder):
    return str(run_folder / "ReLU/seed0")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """The first digits only."""
    source = few_digits(train=TRAIN, held_out=20)
    monkeypatch.setattr("alexnet_jax.data.open.open_source", lambda *_, **__: source)
    return source


@pytest.fixture
def queries(tmp_path):
    """Three test images in folders of their classes, and training image number 5."""
    source = open_digits()
    for split, index in (
        (source.validation, 0),
        (source.validation, 4),
        (source.train, 5),
    ):
        content, label = split.read(index)
        (tmp_path / "q" / str(label)).mkdir(exist_ok=True, parents=True)
        (tmp_path / "q" / str(label) / f"{split.name}{index}.png").write_bytes(content)
    return tmp_path / "q"


def settings(tmp_path, **changes):
    given = {"layer": "fc4", "cache": str(tmp_path / "cache")}
    return NeighborSettings(**given | changes)


def found(trial, queries, capsys, tmp_path, **changes):
    """The lines of JSON."""
    capsys.readouterr()
    assert (
        neighbors(trial, [str(queries)], settings(tmp_path, as_json=True, **changes))
        == 0
    )
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_neighbors_are_those_of_a_slow_loop(trial, queries, few, capsys, tmp_path):
    network = load(trial)
    read = [few.train.read(i) for i in range(TRAIN)]
    rows = network.features([content for content, _ in read], "fc4").astype(np.float64)
    lines = found(trial, queries, capsys, tmp_path, count=4)
    assert len(lines) == 3
    for line in lines:
        query = network.features([line["image"]], "fc4")[0].astype(np.float64)
        distances = np.linalg.norm(rows - query, axis=1)
        expected = np.argsort(distances, kind="stable")[:4]
        assert [each["index"] for each in line["neighbors"]] == expected.tolist()
        for each in line["neighbors"]:
            index = each["index"]
            assert each["distance"] == pytest.approx(distances[index], abs=1e-4)
            assert each["class_name"] == str(read[index][1])
            assert each["where"] == few.train.where(index)
        assert line["true_class"] == Path(line["image"]).parent.name


def test_a_training_image_finds_itself_and_is_marked(trial, queries, capsys, tmp_path):
    lines = found(trial, queries, capsys, tmp_path)
    (own,) = [line for line in lines if Path(line["image"]).name == "train5.png"]
    assert own["neighbors"][0]["index"] == 5
    same = [[each["same_image"] for each in line["neighbors"]] for line in lines]
    assert sum(map(sum, same)) == 1
    assert own["neighbors"][0]["same_image"]


def test_features_are_computed_once(trial, queries, capsys, tmp_path, monkeypatch):
    first = found(trial, queries, capsys, tmp_path)
    monkeypatch.setattr(
        dataset_features, "_squares", lambda *_: pytest.fail("computed again")
    )
    assert found(trial, queries, capsys, tmp_path) == first


def test_features_of_other_weights_are_not_used(trial, queries, few, tmp_path):
    network = load(trial)
    caches = tmp_path / "cache"
    own = dataset_features.dataset_features(network, few, "fc4", caches)
    weights = network.params["fc4"]["kernel"].copy()
    weights[0, 0] = np.nextafter(weights[0, 0], np.inf)
    changed = {**network.params, "fc4": {**network.params["fc4"], "kernel": weights}}
    other = TrainedNetwork(
        network.origin, network.settings, changed, network.trained_on
    )
    assert fingerprint(other) != fingerprint(network)
    assert fingerprint(load(trial)) == fingerprint(network)
    made = dataset_features.dataset_features(other, few, "fc4", caches)
    assert made.folder != own.folder
    assert len(list(caches.iterdir())) == 2


def test_by_default_they_are_kept_with_the_trial(trial, queries, capsys):
    neighbors(f"{trial}@last", [str(queries)], NeighborSettings(layer="fc4"))
    assert "kept in" in capsys.readouterr().err
    (entry,) = (Path(trial) / "features").iterdir()
    assert sorted(path.name for path in entry.iterdir()) == [
        "about.json",
        "features.npy",
    ]


def test_a_bad_query_is_named_and_the_others_go_on(trial, queries, capsys, tmp_path):
    (queries / "broken.png").write_bytes(b"broken")
    assert neighbors(trial, [str(queries)], settings(tmp_path)) == 1
    shown = capsys.readouterr()
    assert "broken.png" in shown.err
    assert shown.out.count("by its folder") == 3
    with pytest.raises(UserError, match="None of the 1 images"):
        neighbors(trial, [str(queries / "broken.png")], settings(tmp_path))


def test_a_training_image_that_cannot_be_read_is_named(trial, queries, few, tmp_path):
    def read(index):
        return (b"broken", 0) if index == 41 else few.train.read(index)

    broken = type(few)(
        **{
            **vars(few),
            "train": type(few.train)("train", TRAIN, read, "cat/{}.jpg".format),
        }
    )
    with pytest.raises(UserError, match=r"cat/41\.jpg in train: .* is not a JPEG"):
        dataset_features.dataset_features(load(trial), broken, "fc4", tmp_path)


def test_bad_input_is_refused(trial, queries, few, tmp_path, monkeypatch):
    for changes, said in (
        ({"layer": "fc7"}, r"no layer 'fc7': .*Did you mean 'fc4'"),
        ({"picture": "a.pdf"}, r"\.png or \.svg"),
        ({"picture": "/no/such/a.png"}, "no such folder"),
        ({"cache": str(queries / "4" / "validation0.png")}, "--cache=FOLDER"),
    ):
        given = {"layer": "fc4", "cache": str(tmp_path / "cache")} | changes
        (queries / "4").mkdir(exist_ok=True)
        (queries / "4" / "validation0.png").touch()
        with pytest.raises(UserError, match=said):
            neighbors(
                trial,
                [str(next(queries.rglob("*[0-9].png")))],
                NeighborSettings(**given),
            )
    with pytest.raises(UserError, match="No such image or folder"):
        neighbors(trial, ["/no/such.jpg"], settings(tmp_path))
    empty = type(few)(
        **{**vars(few), "train": type(few.train)("train", 0, few.train.read)}
    )
    monkeypatch.setattr("alexnet_jax.data.open.open_source", lambda *_, **__: empty)
    with pytest.raises(UserError, match="digits has no training images"):
        neighbors(trial, [str(queries)], settings(tmp_path))


def test_the_table_marks_the_class_and_the_image_itself():
    pixels = np.zeros((4, 4, 3), np.uint8)
    near = [
        Neighbor(3, 0.0, "cat", "cat/a.jpg", same_image=True),
        Neighbor(1, 2.5, "dog", "dog/b.jpg"),
    ]
    lines = text(WithNeighbors("cat/c.jpg", pixels, "cat", near)).splitlines()
    assert lines[0] == "cat/c.jpg (cat, by its folder)"
    assert "* cat" in lines[1]
    assert lines[1].endswith("cat/a.jpg  <- the same image")
    assert "*" not in lines[2]
    assert "2.5" in lines[2]


def test_the_picture_has_each_query_beside_its_neighbors(
    trial, queries, few, capsys, tmp_path, monkeypatch
):
    kept = []
    real = neighbor_figure.draw
    monkeypatch.setattr(
        neighbor_figure,
        "draw",
        lambda *given: kept.append((given, real(*given))) or kept[-1][1],
    )
    path = tmp_path / "found.png"
    neighbors(trial, [str(queries)], settings(tmp_path, count=3, picture=str(path)))
    ((found, _), figure) = kept[0]
    shown = [axis for axis in figure.axes if axis.images]
    assert len(shown) == 3 * (1 + 3)
    network = load(trial)
    for one in found:
        image, *near = shown[:4]
        del shown[:4]
        assert (image.images[0].get_array() == one.pixels).all()
        for axis, each in zip(near, one.neighbors, strict=True):
            pixels = network.square(few.train.read(each.index)[0])
            assert (axis.images[0].get_array() == pixels).all()
            assert axis.get_title().removeprefix("= ") == each.class_name
            framed = axis.spines["top"].get_visible()
            assert framed == (each.class_name == one.true_class)
            assert axis.get_position().x0 > image.get_position().x1
    with PIL.Image.open(path) as image:
        assert image.width > image.height > 200


@pytest.mark.slow
def test_the_command_ends_with_a_status(trial, queries, tmp_path):
    """As a user types it, without TensorFlow."""
    (queries / "broken.png").write_bytes(b"broken")
    given = [trial, str(queries), "--layer=fc4", f"--cache={tmp_path}/cache", "--json"]
    code = (
        "import sys, runpy;"
        f"sys.argv = ['alexnet_jax', 'neighbors', *{given}]\n"
        "try: runpy.run_module('alexnet_jax', run_name='__main__')\n"
        "finally: assert 'tensorflow' not in sys.modules"
    )
    for _ in range(2):  # the second time from the disk
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT
        )
        assert done.returncode == 1, done.stderr
        assert len(done.stdout.splitlines()) == 3
        assert "broken.png" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_default_layer_is_the_last_hidden_one_where_there_is_no_fc7(
    trial, queries, capsys, tmp_path
):
    by_default = found(trial, queries, capsys, tmp_path, layer="")
    assert by_default == found(trial, queries, capsys, tmp_path, layer="conv3")
    assert by_default != found(trial, queries, capsys, tmp_path)
