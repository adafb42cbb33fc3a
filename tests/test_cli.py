"""Bad command lines and config files: one message, exit status 2, nothing written."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackagePath
from pathlib import Path
from types import SimpleNamespace

import pytest
from forked import command
from small_question import question, resolved
from two_classes import write_two_classes

from alexnet_jax import cli
from alexnet_jax.errors import UserError

ROOT = Path(__file__).parent.parent
RELU, ALEXNET = "--config=configs/relu_vs_tanh.py", "--config=configs/alexnet.py"
MAIN = (sys.executable, "-m", "alexnet_jax.main")


@pytest.fixture
def refuse(tmp_path):
    """Runs the command; returns its message, once it has refused as it should."""

    def run(*arguments, workdir=tmp_path / "run"):
        before = sorted(tmp_path.rglob("*"))
        done = command(
            "alexnet_jax.main",
            f"--workdir={workdir}",
            *arguments,
            environment={"PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert done.returncode == 2, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        lines = [line for line in done.stderr.splitlines() if ", into " not in line]
        assert lines[0].startswith("Error: ")
        assert done.stdout == ""
        assert sorted(tmp_path.rglob("*")) == before, "something was left behind"
        return "\n".join(lines).removeprefix("Error: ")

    return run


@pytest.fixture
def write_config(tmp_path):
    """Writes a config file with this body of get_config()."""

    def write(*lines, header="from alexnet_jax.config import base"):
        path = tmp_path / "question.py"
        body = "\n".join(f"    {line}" for line in lines)
        path.write_text(f"{header}\n\n\ndef get_config(dataset='digits'):\n{body}\n")
        return path

    return write


# --- which config -----------------------------------------------------------------


def test_a_missing_config_flag_is_answered_with_the_configs_here(refuse):
    message = refuse()
    assert "Give --config=FILE[:DATASET]" in message
    assert "configs/alexnet.py, " in message


@pytest.mark.parametrize("argument", ["--config=", "--config", "--config=:digits"])
def test_an_empty_config_is_refused(refuse, argument):
    message = refuse(argument)
    assert message.startswith("Missing --config. Give --config=FILE[:DATASET]")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (
            ("--confg=configs/depth.py",),
            "--config=configs/depth.py in place of --confg=",
        ),
        (("--seeds=3", "-cfg", "configs/depth.py"), "--config in place of -cfg?"),
        (("Config=depth.py:cifar10",), "--config=depth.py:cifar10 in place of Config="),
        (("configs/depth.py:cifar10",), "--config=configs/depth.py:cifar10?"),
    ],
)
def test_a_misspelled_config_flag_is_named(arguments, meant):
    with pytest.raises(UserError, match=r"^Missing --config\. ") as error:
        cli._check_config(["main.py", *arguments])
    assert f"Did you mean {meant}" in str(error.value)


@pytest.mark.parametrize("argument", ["--workdir=config", "--config.seeds=1", "runs/a"])
def test_no_other_argument_is_taken_for_the_config_flag(argument):
    with pytest.raises(UserError, match=r"^Missing --config\. Give "):
        cli._check_config(["main.py", argument])


def test_two_configs_are_refused():
    with pytest.raises(UserError, match=r"Several --config: a\.py, b\.py\. Give one"):
        cli._check_config(["main.py", "--config=a.py", "--config", "b.py"])


def test_a_folder_of_configs_is_no_config():
    with pytest.raises(UserError, match=r"No such config file: .*It is a folder"):
        cli._check_config(["main.py", f"--config={ROOT / 'configs'}"])


@pytest.mark.parametrize("form", ["--config=%s", "-config=%s", "--config %s"])
def test_a_missing_config_is_answered_with_the_nearest(refuse, form):
    message = refuse(*(form % "configs/relu_tanh.py:cifar10").split())
    assert "No such config file: configs/relu_tanh.py" in message
    assert "Did you mean 'configs/relu_vs_tanh.py'?" in message
    assert "configs/alexnet.py, " in message


@pytest.mark.parametrize("error", ["ValueError", "SystemExit"])
def test_what_a_config_raises_is_printed_with_its_line(refuse, write_config, error):
    path = write_config("config = base(dataset)", f"raise {error}('no such luck')")
    message = refuse(f"--config={path}")
    assert f"{path}, line 6: {error}: no such luck" in message


def test_a_user_error_of_a_config_is_printed_as_it_is(refuse, write_config):
    path = write_config(
        "raise UserError('Bring images.')",
        header="from alexnet_jax.errors import UserError",
    )
    assert refuse(f"--config={path}") == "Bring images."


def test_a_syntax_error_is_printed_with_its_line(refuse, write_config):
    path = write_config("config = base(dataset", "return config")
    message = refuse(f"--config={path}")
    assert f"{path}, line 5: SyntaxError: " in message


def test_a_misspelled_field_in_a_config_is_printed_with_its_line(refuse, write_config):
    path = write_config("config = base(dataset)", "config.model.widht = 0.5")
    message = refuse(f"--config={path}")
    assert f"{path}, line 6: " in message
    assert "widht. Did you mean 'model.width'?" in message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("config.seeds = '3'", "seeds = 3 (str): it takes a whole number."),
        ("config.training.num_epochs = True", "num_epochs = True: it takes a number."),
        ("config.training = 5", "training = 5 (int): it takes a section"),
        ("config.arms = []", "arms = () (tuple): it takes a dictionary."),
    ],
)
def test_a_value_of_the_wrong_type_in_a_config_is_printed_with_its_line(
    write_config, line, message
):
    path = write_config("config = base(dataset)", line)
    with pytest.raises(UserError) as error:
        cli._check_config(["main.py", f"--config={path}"])
    assert f"{path}, line 6: " in str(error.value)
    assert message in str(error.value)
    assert "casted" not in str(error.value)


def test_an_idea_that_is_not_offered_is_told_so_in_a_config_too(refuse, write_config):
    line = "config.optimizer.nesterov = True"
    path = write_config("config = base(dataset)", line)
    message = refuse(f"--config={path}")
    assert "nesterov. Nesterov momentum is not offered." in message


@pytest.mark.parametrize("returned", ["None", "{}", "ConfigDict({'seeds': 1})"])
def test_a_config_that_is_not_made_of_the_base_is_refused(
    refuse, write_config, returned
):
    header = "from ml_collections import ConfigDict"
    path = write_config(f"return {returned}", header=header)
    message = refuse(f"--config={path}")
    assert f"{path}: get_config() must return" in message
    assert "base()" in message


def test_an_arm_that_is_no_mapping_is_refused(refuse, write_config):
    path = write_config(
        "config = base(dataset)",
        "config.arms = {'ReLU': {}, 'tanh': 'model.activation'}",
        "return config",
    )
    message = refuse(f"--config={path}")
    assert "Arm 'tanh'" in message
    assert "{field: value}" in message


def test_a_file_without_get_config_is_refused(refuse, tmp_path):
    (tmp_path / "empty.py").write_text("")
    message = refuse(f"--config={tmp_path / 'empty.py'}")
    assert str(tmp_path / "empty.py") in message
    assert "get_config(dataset)" in message


def test_an_unknown_kind_of_dataset_is_refused(refuse):
    message = refuse(f"{RELU}:flder=pictures")
    assert "'flder='" in message
    assert "Did you mean 'folder'?" in message


# --- flags ------------------------------------------------------------------------


def test_an_argument_that_is_not_a_flag_is_refused(refuse):
    assert "Unexpected argument: cifar10" in refuse(RELU, "cifar10")


def test_an_unknown_flag_is_refused_with_the_nearest(refuse):
    message = refuse(RELU, "--wrkdir=elsewhere")
    assert "wrkdir" in message
    assert "Did you mean: workdir" in message


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--preflight=maybe", "--preflight=maybe: give true or false."),
        ("--num_processes=two", "--num_processes=two: give a whole number."),
        ("--flagfile=/no/such", "No such file or directory: '/no/such'"),
        ("--config.training=5", "one of its fields, 'training.FIELD'"),
        ("--config.tuned=5", "The config file sets 'tuned'."),
    ],
)
def test_other_values_of_flags_are_refused_too(refuse, argument, message):
    assert message in refuse(RELU, argument)


def test_an_override_before_the_config_is_refused(refuse):
    message = refuse("--config.seeds=1", RELU)
    assert "Put --config=FILE before" in message
    assert "--config.seeds=1" in message


@pytest.mark.slow
def test_a_flag_that_is_almost_a_field_is_answered_with_the_fields_flag(refuse):
    assert "Did you mean --config.seeds?" in refuse(RELU, "--sedes=3")
    assert "Did you mean --config.training.batch_size?" in refuse(RELU, "--batchsize=3")
    assert "Did you mean --config.training.batch_size?" in refuse(
        RELU, "--batch-size=3"
    )
    assert "Nesterov momentum is not offered." in refuse(RELU, "--nesterov=true")
    assert "--config.optimizer.name" in refuse(RELU, "--optimizer=adam")


def test_the_dataset_is_not_overridden_past_the_config_that_chooses_by_it(refuse):
    assert "--config=FILE:DATASET" in refuse(RELU, "--config.data.dataset=folder=x")


def test_a_tilde_that_no_shell_has_expanded_is_told(refuse):
    assert "only where a word begins" in refuse("--config=~/my.py")


@pytest.mark.parametrize(
    ("argument", "nearest"),
    [
        ("--config.optimizer.learning_rat=0.1", "optimizer.learning_rate"),
        ("--config.batch_size=16", "training.batch_size"),
        ("--config.model.actvation=tanh", "model.activation"),
        ("--noconfig.data.random_flp", "data.random_flip"),
        ("--config.sedes=2", "seeds"),
    ],
)
def test_a_misspelled_field_is_refused_with_the_nearest(refuse, argument, nearest):
    message = refuse(RELU, argument)
    assert argument.partition("config.")[2].partition("=")[0] in message
    assert f"Did you mean '{nearest}'?" in message


@pytest.mark.parametrize(
    ("argument", "kind"),
    [
        ("--config.seeds=three", "a whole number"),
        ("--config.seeds=1.5", "a whole number"),
        ("--config.training.num_epochs=many", "a number"),
        ("--config.training.tensorboard=perhaps", "true or false"),
        ("--config.model.biases=(1,", "numbers with commas"),
    ],
)
def test_a_value_of_the_wrong_type_is_answered_with_the_right_one(
    refuse, argument, kind
):
    message = refuse(RELU, argument)
    assert message.startswith(argument)
    assert kind in message


# --- values -----------------------------------------------------------------------


def test_a_value_out_of_range_is_answered_with_the_range(refuse):
    message = refuse(RELU, "--config.seeds=0")
    for part in ("config.seeds=0", "1", "1000"):
        assert part in message


@pytest.mark.slow
def test_a_wrong_choice_is_answered_with_the_choices(refuse):
    message = refuse(ALEXNET, "--config.model.activation=relo")
    assert "config.model.activation='relo'" in message
    assert "relu, tanh, " in message


def test_an_override_of_the_ablated_field_is_refused(refuse):
    message = refuse(RELU, "--config.model.activation=relu")
    assert "--config.model.activation" in message
    assert "ReLU: relu, tanh: tanh" in message


@pytest.mark.slow
def test_an_unknown_dataset_is_answered_with_the_nearest(refuse):
    message = refuse(f"{RELU}:digitz")
    assert "'digitz'" in message
    assert "Did you mean 'digits'?" in message


@pytest.mark.slow
def test_a_batch_that_microbatches_do_not_divide_is_refused(refuse):
    flags = ("training.batch_size=10", "training.gradient_accumulation=4")
    message = refuse(RELU, *(f"--config.{flag}" for flag in flags))
    assert "config.training.batch_size=10" in message
    assert "4 microbatches: use 8 or 12" in message


@pytest.mark.slow
def test_a_run_folder_that_cannot_be_made_is_refused(refuse, tmp_path):
    (tmp_path / "file").write_text("no folder")
    message = refuse(RELU, workdir=tmp_path / "file" / "run")
    assert str(tmp_path / "file" / "run") in message
    assert "--workdir=DIR" in message


@pytest.mark.slow
def test_a_config_file_may_import_its_sibling(tmp_path):
    """Whatever the working directory is."""
    (tmp_path / "my_shared_arms.py").write_text("ARMS = {'one_arm': {}}\n")
    question = tmp_path / "question.py"
    question.write_text(
        "from alexnet_jax.config import base\n"
        "from my_shared_arms import ARMS\n\n\n"
        "def get_config(dataset='digits'):\n"
        "    config = base(dataset)\n"
        "    config.arms = ARMS\n"
        "    config.claim = 5\n"
        "    return config\n"
    )
    done = command("alexnet_jax.main", f"--config={question}", folder="/")
    # Past the config file: what is refused is the claim.
    assert done.returncode == 2
    assert "claim" in done.stderr


# --- without the checkout ---------------------------------------------------------


def test_a_shipped_config_is_named_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        cli._check_config(["main", "--config=configs/relu_vs_tanh.py:cifar10"])
    for words in (str(ROOT / "configs/relu_vs_tanh.py"), "alexnet.py"):
        assert words in str(refused.value)


def test_a_wheels_configs_are_where_its_record_says(tmp_path, monkeypatch):
    shipped = tmp_path / "share/alexnet_jax/configs/depth.py"
    shipped.parent.mkdir(parents=True)
    shipped.touch()
    record = [PackagePath("alexnet_jax/config/base.py"), PackagePath(*shipped.parts)]
    for file in record:
        file.dist = SimpleNamespace(locate_file=lambda path: path)
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "site/alexnet_jax/cli.py"))
    monkeypatch.setattr(cli.importlib.metadata, "files", lambda name: record)
    assert cli.shipped_configs() == [shipped]


@pytest.mark.slow
def test_a_wheel_holds_the_configs(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    for name in ("alexnet_jax", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir=out", "."]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options], cwd=tmp_path, check=True
    )
    (wheel,) = (tmp_path / "out").iterdir()
    held = zipfile.ZipFile(wheel).namelist()
    found = {Path(name).name for name in held if "/share/alexnet_jax/configs/" in name}
    assert found == {path.name for path in (ROOT / "configs").glob("*.py")}


# --- what is kept -----------------------------------------------------------------


def test_what_an_interrupted_run_has_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "resolved_plan", lambda: resolved(question()))

    def kept(rehearsed=False):
        return cli.kept_by_run(str(tmp_path), rehearsed=rehearsed)

    assert kept().startswith(cli.NOTHING_KEPT)
    (tmp_path / "experiment.json").write_text("{}")
    assert kept() == cli.TRIALS_KEPT
    assert kept(rehearsed=True) == cli.NOTHING_KEPT


def test_an_unusable_configuration_has_kept_nothing(monkeypatch):
    def refuse():
        raise UserError("no such field")

    monkeypatch.setattr(cli, "resolved_plan", refuse)
    assert cli.kept_by_run("", rehearsed=False) == cli.NOTHING_KEPT


# --- the environment --------------------------------------------------------------


@pytest.mark.slow
def test_a_device_that_is_not_there_is_refused(tmp_path):
    done = subprocess.run(
        [*MAIN, RELU, f"--workdir={tmp_path / 'run'}"],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cuda"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "JAX_PLATFORMS=cuda" in done.stderr
    assert "Remove or change that variable" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_a_home_folder_programs_are_compiled_each_time(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cli.Path, "home", no_home)
    cli._use_compilation_cache()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    with pytest.raises(RuntimeError) as raised:
        Path("~nosuch/x").expanduser()
    assert "write the whole path" in cli._explained(raised.value)


def test_a_reader_that_has_left_ends_the_command_quietly():
    """As `| head` does; the status is that of a process that SIGPIPE ended."""
    code = "print('a line of text\\n' * 10**5)"
    command = (
        f"from alexnet_jax import cli; cli.run(lambda _: {code}, with_config=False)"
    )
    shell = '"$0" -c "$1" | head -n 1; echo "${PIPESTATUS[0]}"'
    done = subprocess.run(
        ["bash", "-c", shell, sys.executable, command],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["a line of text", "141"]
    assert done.stderr == ""


@pytest.mark.slow
def test_a_run_folder_whose_name_no_disk_takes_is_refused(refuse, tmp_path):
    assert "too long" in refuse(RELU, workdir=tmp_path / ("a" * 300))
    assert "not UTF-8" in refuse(RELU, workdir=os.fsdecode(bytes(tmp_path) + b"/\xff"))


@pytest.mark.slow
def test_an_image_that_is_none_is_named_without_tensorflows_log(tmp_path):
    images = write_two_classes(tmp_path / "images")
    (images / "train/dark/broken.jpg").write_text("nonsense")
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    flags = (f"{ALEXNET}:folder={images}", "--config.preset=small")
    done = subprocess.run(
        [*MAIN, *flags, "--config.training.batch_size=8", f"--workdir={tmp_path}/run"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2
    assert "broken.jpg" in done.stderr
    assert "begins with b'nonsense'" in done.stderr
    assert "Traceback" not in done.stderr
    assert "rendezvous" not in done.stderr


def test_a_lack_of_memory_is_a_message(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["main.py"])

    def main(_):
        raise MemoryError("Unable to allocate 67.6 GiB")

    with pytest.raises(SystemExit) as left:
        cli.run(main, with_config=False)
    assert left.value.code == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert said.startswith("Error: Not enough memory. Unable to allocate 67.6 GiB.")


def test_a_file_in_place_of_a_folder_is_a_message(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for place in ("file", "file/below"):
        with pytest.raises(OSError, match="file") as error:
            (tmp_path / place).mkdir()
        assert "It is not a folder: choose another." in cli._explained(error.value)
