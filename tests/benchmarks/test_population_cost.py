"""The benchmark of populations: what it trains, and its table."""

import pytest
from small_trial import STEP

from alexnet_jax.config.grouping import group_trials
from alexnet_jax.experiment import runner
from alexnet_jax.training.devices import Devices
from benchmarks import population_cost


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (population_cost.four_layer, "four_layer"),
        (population_cost.alexnet, "alexnet"),
    ],
)
@pytest.mark.parametrize("side", population_cost.SEEDS_AND_RATES)
def test_all_its_trials_can_be_one_population(network, name, side):
    plan = population_cost.experiment(network(), 32, "bfloat16", side, population=True)
    assert len(plan.trials) == side**2
    (group,) = group_trials(plan.trials, population=True, largest=32, num_devices=1)
    of_one = group[0].settings
    assert of_one.model.name == name
    assert of_one.model.dtype == "bfloat16"
    assert of_one.training.batch_size == 32


@pytest.mark.slow
def test_both_forms_train_the_same_trials(monkeypatch):
    """Once to compile, then in turns; the ratio is that within a turn."""

    monkeypatch.setattr(population_cost, "EPOCHS", 1.9 * STEP)

    def experiment(population):
        return population_cost.experiment(
            population_cost.four_layer(), 16, "float32", 2, population=population
        )

    run_trials, asked, clock = runner.run_trials, [], iter(range(0, 1000, 5))

    def recording(left, folder, plan, datasets, devices):
        asked.append((plan.settings.population, len(left)))
        if len(asked) <= 2:
            one = Devices(devices=devices.devices[:1])
            run_trials(left, folder, plan, datasets, one)
            ended = folder.rglob("trial.json")
            assert len(list(ended)) == 4
        elif plan.settings.population:
            next(clock)  # twice as long

    monkeypatch.setattr(runner, "run_trials", recording)
    monkeypatch.setattr(
        population_cost.time, "perf_counter", lambda: float(next(clock))
    )
    found = population_cost.measure(experiment(False), experiment(True), 2)
    assert asked[:2] == [(False, 4), (True, 4)]
    assert sorted(asked[2:]) == [(False, 4)] * 2 + [(True, 4)] * 2
    assert asked[2] != asked[4]  # another one begins
    assert found["seconds"] == {"alone": 5.0, "population": 10.0}
    assert found["trials_per_second"] == {"alone": 0.8, "population": 0.4}
    assert found["ratios"] == [0.5, 0.5]
