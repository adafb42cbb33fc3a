"""The benchmark of populations: what it trains, and its table."""

import pytest
from small_trial import STEP

from alexnet_jax import benchmark, experiment, population_cost
from alexnet_jax.config import populations, trial_config, trials
from alexnet_jax.training.parallel import Devices


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (population_cost.four_layer, "four_layer"),
        (population_cost.alexnet, "alexnet"),
    ],
)
@pytest.mark.parametrize("side", population_cost.SIDES)
def test_all_its_trials_are_one_population(network, name, side):
    config = population_cost.questions(network(), 32, "bfloat16", side)
    assert len(trials(config)) == side**2
    (group,) = populations(config, trials(config), 32)
    of_one = trial_config(config, group[0])
    assert of_one.model.name == name
    assert of_one.model.dtype == "bfloat16"
    assert of_one.training.batch_size == 32


def test_both_forms_train_the_same_trials(monkeypatch):
    """Once to compile, then in turns; the ratio is that within a turn."""
    config = population_cost.questions(population_cost.four_layer(), 16, "float32", 2)
    with config.unlocked():
        config.training.num_epochs = 1.9 * STEP
    run_trials, asked, clock = experiment.run_trials, [], iter(range(0, 1000, 5))

    def recording(left, folder, config, datasets, devices):
        asked.append((config.population, len(left)))
        if len(asked) <= 2:
            one = Devices(devices=devices.devices[:1])
            run_trials(left, folder, config, datasets, one)
            ended = folder.rglob("trial.json")
            assert len(list(ended)) == 4
        elif config.population:
            next(clock)  # twice as long

    monkeypatch.setattr(experiment, "run_trials", recording)
    monkeypatch.setattr(
        population_cost.time, "perf_counter", lambda: float(next(clock))
    )
    found = population_cost.measure(config, 2)
    assert asked[:2] == [(False, 4), (True, 4)]
    assert sorted(asked[2:]) == [(False, 4)] * 2 + [(True, 4)] * 2
    assert asked[2] != asked[4]  # another one begins
    assert found["seconds"] == {"alone": 5.0, "population": 10.0}
    assert found["trials_per_second"] == {"alone": 0.8, "population": 0.4}
    assert found["ratios"] == [0.5, 0.5]


def test_the_table_says_trials_a_second_of_both():
    row = {
        "name": "four-layer",
        "trials": 16,
        "first_seconds": {"alone": 9.04, "population": 21.0},
        "trials_per_second": {"alone": 1.5, "population": 3.0},
        "ratio": 2.0,
        "ratios": [1.9, 2.0, 2.2],
    }
    report = {
        "command": "python -m alexnet_jax.benchmark",
        "date": "2026-01-01",
        "batch_size": 32,
        "devices": ["cpu"],
        "versions": {"jax": "0"},
        "cpu": "a CPU",
        "num_cores": 2,
        "memory_gb": 4.0,
        "rows": [row],
    }
    line = benchmark.population_table(report).splitlines()[-1]
    rates, spread = "four-layer 16 1.50 3.00", "2.00 (1.90 to 2.20)"
    assert " ".join(line.split()) == f"{rates} {spread} 9.0 s and 21.0 s"
