"""What all commands share: flags, the configuration, and errors as messages.

Bad input ends a command with a message, without a traceback, and with exit status 2.
"""

import errno
import gc
import importlib.metadata
import io
import os
import re
import runpy
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from alexnet_jax.config.fields import FIELDS, TYPE_NAMES
from alexnet_jax.config.hints import assignment_problem, hint
from alexnet_jax.config.resolve import is_complete, replaced_values, resolve
from alexnet_jax.config.trials import ExperimentPlan
from alexnet_jax.errors import Stopped, UserError, nearest

BAD_INPUT, INTERRUPTED, PIPE_CLOSED = 2, 130, 141
# By launcher: the number of this process among several.
RANK_VARIABLES = ("SLURM_PROCID", "OMPI_COMM_WORLD_RANK")
NOTHING_KEPT = "Nothing was written."
TRIALS_KEPT = (
    "Records written so far are kept. The same command continues: finished trials are not "
    "repeated, and an interrupted trial resumes from its last checkpoint."
)


def run(
    main: Callable[[list[str]], None],
    *,
    with_config: bool = True,
    takes_arguments: bool = False,
    kept: str | Callable[[], str] = NOTHING_KEPT,
) -> None:
    """Runs a command, and prints errors that the user can fix as one message.

    Args:
      main: the command; receives the positional arguments.
      with_config: the command needs --config.
      takes_arguments: the command takes positional arguments.
      kept: printed on interruption: what is kept, and how to continue; or a function
        that finds out, called once the flags are read.
    """

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1 and not takes_arguments:
            raise UserError(
                f"Unexpected argument: {' '.join(argv[1:])}. Flags start with --."
            )
        logging.set_verbosity(logging.WARNING)  # JAX logs every backend it lacks.
        gc.set_threshold(50_000, 20, 50)  # Modules and traced programs are no garbage.
        _use_compilation_cache()
        main(argv[1:])
        sys.stdout.flush()

    def parse(argv: list[str]) -> list[str]:
        return _parse_flags(argv, with_config)

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a path need not be UTF-8
            stream.reconfigure(errors="backslashreplace")
    try:
        if with_config:  # It reads the flags of a --flagfile.
            config_flags.DEFINE_config_file(
                "config",
                None,
                "Config file. The dataset follows a colon: FILE:DATASET.",
                lock_config=True,
            )
        app.run(guarded, flags_parser=parse)
    except BrokenPipeError:  # The reader, such as head, has left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE_CLOSED)
    except (UserError, OSError, RuntimeError, MemoryError, flags.Error) as error:
        message = _explained(error)
        if message is None:
            raise
        print(f"Error: {message}", file=sys.stderr)
        _leave(BAD_INPUT)
    except Stopped as stopped:
        print(f"{stopped} {_said(kept)}", file=sys.stderr)
        sys.exit(128 + stopped.number)
    except KeyboardInterrupt:
        print(
            f"\nInterrupted.{f' {_said(kept)}' if with_config else ''}", file=sys.stderr
        )
        sys.exit(INTERRUPTED)


def _explained(error: Exception) -> str | None:
    """What is wrong, where, and the way out; None if that is not known."""
    if isinstance(error, (UserError, flags.Error)):
        return str(error)
    if isinstance(error, MemoryError):
        return (
            f"Not enough memory. {error}. Give the process more, or take a smaller network "
            "(--config.preset=small), batch or image size."
        )
    if not isinstance(error, OSError):
        if "home directory" not in str(error):
            return None
        return (
            "A path begins with ~, and there is no such user or no home folder: write the "
            "whole path."
        )
    # A full disk, a folder removed or without permission.
    where = f" at {error.filename}" if error.filename else ""
    way_out = {
        errno.ENOSPC: " Free some space; the same command then continues.",
        errno.EDQUOT: " Free some of your quota; the same command then continues.",
        errno.ENAMETOOLONG: " Use a shorter name.",
        errno.EEXIST: " It is not a folder: choose another.",
        errno.ENOTDIR: " It is not a folder: choose another.",
        errno.EACCES: " Choose a folder that you may read and write.",
        errno.EROFS: " Choose a folder that you may write to.",
    }.get(error.errno or 0, "")
    return f"{error.strerror or error}{where}.{way_out}"


def _said(kept: str | Callable[[], str]) -> str:
    """The message about what is kept; nothing is before the flags are read."""
    if not flags.FLAGS.is_parsed():
        return NOTHING_KEPT
    return kept() if callable(kept) else kept


def kept_by_run(workdir: str, *, rehearsed: bool) -> str:
    """What an interrupted run has kept, and how to continue.

    Args:
      workdir: the flag.
      rehearsed: whether the command was only to find out what a run costs.
    """
    if rehearsed:
        return NOTHING_KEPT
    try:
        begun = (resolved_plan().run_folder(workdir) / "experiment.json").exists()
    except UserError:
        return NOTHING_KEPT
    return TRIALS_KEPT if begun else f"{NOTHING_KEPT} The run had not begun."


def _leave(status: int) -> NoReturn:
    """Ends this process, without the usual cleanup where that would hang.

    If one of several processes fails, the others wait for it inside a step, and on a
    normal exit JAX would wait for them, for minutes. If a checkpoint's folder could not
    be created, a normal exit would wait as long for Orbax's threads.
    """
    jax = sys.modules.get("jax")
    distributed = jax is not None and jax.distributed.is_initialized()
    threads = (type(thread).__module__ for thread in threading.enumerate())
    if distributed or any(module.startswith("orbax.") for module in threads):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def resolved_plan() -> ExperimentPlan:
    """Returns the plan of the configuration in --config, with the flags' overrides.

    Raises:
      UserError: names the first field that is wrong, and what it may be.
    """
    config = flags.FLAGS.config
    if ":" in flags.FLAGS["config"].config_filename:
        config.set_by("command line", "data.dataset", config.data.dataset)
    return resolve(config, _overrides())


def pinned_fields() -> list[str]:
    """Returns a line for each tuned field that the command line sets to one value."""
    replaced = replaced_values(flags.FLAGS.config, _overrides())
    return [
        f"--config.{name} replaces the values that the config file compares: "
        f"{', '.join(dict.fromkeys(f'{value:g}' for value in values))}."
        for name, values in replaced.items()
    ]


def launches_as_primary(process_id: int | None) -> bool:
    """Whether this process prints, by its flag or its launcher; needs no JAX.

    Args:
      process_id: --process_id; None: as Slurm or Open MPI says, and otherwise a single
        process.
    """
    ranks = (process_id, *(os.environ.get(name) for name in RANK_VARIABLES))
    return int(next((rank for rank in ranks if rank is not None), 0)) == 0


def _overrides() -> dict[str, Any]:
    """Returns the fields that the command line sets, by dotted name."""
    return config_flags.get_override_values(flags.FLAGS["config"])


def cache_folder() -> Path:
    """Returns the folder of compiled programs: the user's own.

    A cache that others can write to would run their code.
    """
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "alexnet_jax" / "compiled"


def _use_compilation_cache() -> None:
    """Keeps compiled programs for the next run, unless the user has configured JAX's cache."""
    try:
        folder = str(cache_folder())
    except RuntimeError:  # There is no home folder: programs are compiled each time.
        return
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def _parse_flags(argv: list[str], with_config: bool) -> list[str]:
    """Parses the flags; refuses a bad config or field before absl does, with a hint."""
    helped = any(argument.startswith(("--help", "-help", "-?")) for argument in argv)
    # A config file may import its siblings, as a script may.
    given = next(iter(_flag_values(argv, "config")), "")
    folder = str(Path(given.split(":")[0]).resolve().parent)
    sys.path.insert(0, folder)
    try:
        if with_config and not helped:
            _check_config(argv)
            _check_fields(argv)
        return flags.FLAGS(argv)
    except flags.Error as error:
        found = re.match(r"flag (--([\w.]+)=.*?): ", str(error), re.DOTALL)
        least = ", at least 1" if "not a positive integer" in str(error) else ""
        if found and (kind := _flag_kind(found[2])):
            raise UserError(f"{found[1]}: give {TYPE_NAMES[kind]}{least}.") from error
        raise UserError(_with_field(str(error))) from error
    finally:
        sys.path.remove(folder)


def _flag_kind(name: str) -> type | None:
    """The type of a flag's value, of a field's or another; None for text and choices."""
    field = FIELDS.get(name.removeprefix("config."))
    kinds = {"bool": bool, "int": int, "float": float}
    return type(field.default) if field else kinds.get(flags.FLAGS[name].flag_type())


def _with_field(message: str) -> str:
    """Names the field in absl's message if the unknown flag was meant as one."""
    found = re.match(r"Unknown command line flag '([\w.-]+)'", message)
    if not found or "config" not in flags.FLAGS:
        return message
    flag = found[1].replace("-", "_")
    names = [name for name in FIELDS if flag in (name, name.split(".")[-1])]
    if names:
        return f"{found[0]}. Did you mean --config.{names[0]}?"
    advice = re.sub(r"'([a-z0-9_.]+)'", r"--config.\1", hint(flag))
    return f"{found[0]}.{advice}" if advice else message


def _check_config(argv: list[str]) -> None:
    """Loads the config file once before absl does, to distinguish its errors from others."""
    given, *further = dict.fromkeys(_flag_values(argv, "config")) or ("",)
    if further:
        raise UserError(f"Several --config: {', '.join((given, *further))}. Give one.")
    path, *dataset = given.split(":", 1)
    if not path:
        raise UserError(
            f"Missing --config. {_meant_as_config(argv[1:])}Give --config=FILE[:DATASET]."
            f"{_known_configs()}"
        )
    if path.startswith("~"):
        raise UserError(
            f"--config={given}: a shell expands ~ only where a word begins. Write --config "
            f"{given}, with a space, or the whole path."
        )
    if not os.path.isfile(path):
        beside = {p.stem: p for p in Path(path).parent.glob("*.py") if _is_config(p)}
        hint = nearest(Path(path).stem, beside)
        for stem, file in beside.items():
            hint = hint.replace(f"'{stem}'", f"'{file}'")
        for shipped in shipped_configs():
            if shipped.name == Path(path).name:
                hint = f" The shipped one is {shipped}."
        if os.path.isdir(path):
            hint = " It is a folder: give one of its files."
        raise UserError(f"No such config file: {path}.{hint}{_known_configs()}")
    try:
        names = runpy.run_path(path)
        if "get_config" not in names:
            raise UserError(
                f"{path} does not define get_config(dataset). For an example see "
                f"{next(iter(shipped_configs()), 'configs/alexnet.py')}."
            )
        config = names["get_config"](*dataset)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(_raised_in(path, error)) from error
    if not is_complete(config):
        raise UserError(
            f"{path}: get_config() must return a config made by alexnet_jax.config.base()."
        )


def _meant_as_config(arguments: list[str]) -> str:
    """A sentence about the first argument that was meant as --config, or ""."""
    for argument in arguments:
        flag, _, value = argument.partition("=")
        name = flag.lstrip("-")
        if name == argument and name.split(":")[0].endswith(".py"):
            return f"Did you mean --config={argument}? "
        of_field = name.startswith("config.") or flag in ("--config", "-config")
        if not of_field and nearest(name, ("config",)):
            value = f"={value}" if value else ""
            return f"Did you mean --config{value} in place of {argument}? "
    return ""


def _raised_in(path: str, error: BaseException) -> str:
    """Returns the line, type and message of an exception that a config file raised."""
    frames = traceback.extract_tb(error.__traceback__)
    name = Path(path).name
    lines = [f.lineno for f in frames if Path(f.filename).name == name]
    line = (
        error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    )
    where = f"{path}, line {line}" if line else path
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{where}: {assignment_problem(text) or f'{type(error).__name__}: {text}'}"


def _check_fields(argv: list[str]) -> None:
    """Refuses overrides of unknown fields, and overrides before --config."""
    config_given = False
    for argument in argv:
        config_given |= re.match(r"--?config(=|$)", argument) is not None
        found = re.match(r"--?(?:no)?config\.([^=]+)", argument)
        if found and found[1] not in FIELDS:
            name = found[1]
            raise UserError(f"No such field: config.{name}.{hint(name)}")
        if found and found[1] == "data.dataset":
            raise UserError(
                f"{argument}: the dataset follows the config file, which chooses by it: "
                "--config=FILE:DATASET."
            )
        if found and not config_given:
            raise UserError(f"Put --config=FILE before its overrides: {argument}.")


def _flag_values(argv: list[str], name: str) -> list[str]:
    """The values of --name=VALUE and --name VALUE, in order."""
    values = []
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        if argument in (f"--{name}", f"-{name}"):
            values.append(following)
        elif argument.startswith((f"--{name}=", f"-{name}=")):
            values.append(argument.partition("=")[2])
    return values


def shipped_configs() -> list[Path]:
    """The config files of the checkout, or those that a wheel has installed."""
    root = Path(__file__).parents[1]
    if (root / "pyproject.toml").is_file():
        return sorted((root / "configs").glob("*.py"))
    try:
        files = importlib.metadata.files("alexnet_jax") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    of_wheel = [
        file for file in files if file.parts[-3:-1] == ("alexnet_jax", "configs")
    ]
    return sorted(Path(str(file.locate())).resolve() for file in of_wheel)


def _is_config(path: Path) -> bool:
    return path.is_file() and "def get_config" in path.read_text(errors="replace")


def _known_configs() -> str:
    """Lines about the config files here, and about those that are shipped."""
    lines = []
    here = sorted(path for path in Path("configs").glob("*.py") if _is_config(path))
    shipped = shipped_configs()
    if here:
        lines.append(f"\nConfigs here: {', '.join(map(str, here))}")
    if shipped and [path.resolve() for path in here] != shipped:
        names = ", ".join(path.name for path in shipped)
        lines.append(f"\nShipped configs, in {shipped[0].parent}: {names}")
    return "".join(lines)
