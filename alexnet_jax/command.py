"""The door that every command shares: flags in, messages out."""

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
from ml_collections import ConfigDict, config_flags

from alexnet_jax import config as configuration
from alexnet_jax import tuning
from alexnet_jax.config import is_complete
from alexnet_jax.errors import Stopped, UserError, nearest
from alexnet_jax.fields import FIELDS, TYPE_NAMES

BAD_INPUT, INTERRUPTED = 2, 130
TRIALS_KEPT = (
    "Records written so far are kept. The same command goes on: finished trials are not "
    "repeated, the one under way goes on from its last checkpoint."
)


def run(
    main: Callable[[list[str]], None],
    *,
    with_config: bool = True,
    takes_arguments: bool = False,
    kept: str = TRIALS_KEPT,
) -> None:
    """Runs a command; what goes wrong by the user's hand is said in one message.

    Args:
      main: the command; it is given what is no flag, without the program's name.
      with_config: it needs --config, and leaves records.
      takes_arguments: it takes more than flags.
      kept: what is said of these when it is interrupted.
    """
    if with_config:
        config_flags.DEFINE_config_file(
            "config",
            None,
            "Config file; behind a colon, the dataset.",
            lock_config=True,
        )

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1 and not takes_arguments:
            raise UserError(
                f"Not understood: {' '.join(argv[1:])}. Flags begin with --."
            )
        logging.set_verbosity(logging.WARNING)  # JAX tells of each backend it lacks
        _use_compilation_cache()
        main(argv[1:])

    def parse(argv: list[str]) -> list[str]:
        return _parse_flags(argv, with_config)

    try:
        app.run(guarded, flags_parser=parse)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        _leave(BAD_INPUT)
    except OSError as error:  # a full disk, a folder taken away or not permitted
        print(f"Error: {error}", file=sys.stderr)
        _leave(BAD_INPUT)
    except Stopped as stopped:
        print(f"{stopped} {kept}", file=sys.stderr)
        sys.exit(128 + stopped.number)
    except KeyboardInterrupt:
        print(f"\nInterrupted.{f' {kept}' if with_config else ''}", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _leave(status: int) -> NoReturn:
    """Ends this process without waiting for what will not come.

    One of several that has failed alone: the others are in the midst of a step that
    waits for it, and JAX would have it wait for them in turn, for minutes. A save whose
    folder could not be made: Orbax's threads wait for it, as long.
    """
    jax = sys.modules.get("jax")
    alone = jax is not None and jax.distributed.is_initialized()
    saving = (type(thread).__module__ for thread in threading.enumerate())
    if alone or any(module.startswith("orbax.") for module in saving):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def finished_config() -> ConfigDict:
    """The config of --config with its overrides, checked and ready to run.

    Raises:
      UserError: as `config.finish`.
    """
    return configuration.finish(flags.FLAGS.config, _overrides())


def not_tried() -> list[str]:
    """What is to be said where the command line sets a field that the config tunes."""
    said = []
    for name, tried in tuning.values_of(flags.FLAGS.config.tuned).items():
        others = [f"{v:g}" for v in tried if v != _overrides().get(name)]
        if name in _overrides() and others:
            said.append(
                f"--config.{name} takes the place of the values that the config file "
                f"tries: {', '.join(dict.fromkeys(others))}."
            )
    return said


def _overrides() -> dict[str, Any]:
    """Those of the command line, by dotted name."""
    return config_flags.get_override_values(flags.FLAGS["config"])


def cache_folder() -> Path:
    """The user's own: a compilation cache that others can write runs their code."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "alexnet_jax" / "compiled"


def _use_compilation_cache() -> None:
    """Compiled programs are kept for the next run, unless JAX was told where to."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_folder()))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def _parse_flags(argv: list[str], with_config: bool) -> list[str]:
    """absl's flags, with plain words for a config or a field that will not do."""
    helped = any(argument.startswith(("--help", "-help", "-?")) for argument in argv)
    if with_config and not helped:
        _check_config(argv)
        _check_fields(argv)
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        found = re.match(r"flag --config\.([\w.]+)=(.*?): ", str(error), re.DOTALL)
        if found:
            name, value = found.groups()
            kind = TYPE_NAMES[type(FIELDS[name].default)]
            raise UserError(f"--config.{name}={value}: it takes {kind}.") from error
        raise UserError(_with_field(str(error))) from error


def _with_field(message: str) -> str:
    """With the field's name, if an unknown flag is the last part of one."""
    found = re.match(r"Unknown command line flag '(\w+)'", message)
    names = [name for name in FIELDS if found and name.split(".")[-1] == found[1]]
    return (
        f"{found[0]}. Did you mean --config.{names[0]}?" if found and names else message
    )


def _check_config(argv: list[str]) -> None:
    """Loads the config file once by itself, so that its errors are told apart."""
    given = _flag_value(argv, "config")
    if given is None:
        raise UserError(
            f"Which experiment? Give --config=FILE[:dataset].{_known_configs()}"
        )
    path, *dataset = given.split(":", 1)
    if not os.path.isfile(path):
        hint = nearest(path, map(str, Path(path).parent.glob("*.py")))
        raise UserError(f"No such config file: {path}.{hint}{_known_configs()}")
    try:
        names = runpy.run_path(path)
        if "get_config" not in names:
            raise UserError(f"{path} defines no get_config(dataset): see configs/.")
        config = names["get_config"](*dataset)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(_raised_in(path, error)) from error
    if not is_complete(config):
        raise UserError(
            f"{path}: get_config() must return what alexnet_jax.config.base() makes."
        )


def _raised_in(path: str, error: BaseException) -> str:
    """Type, message and line of what a config file raised."""
    frames = traceback.extract_tb(error.__traceback__)
    name = Path(path).name
    lines = [f.lineno for f in frames if Path(f.filename).name == name]
    line = (
        error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    )
    where = f"{path}, line {line}" if line else path
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    # ml_collections names what there is by printing all of it.
    unknown = re.search(r'"(\w+)" does not exist', text)
    if unknown and "Other fields present" in text:
        known = {part for field in FIELDS for part in (field, field.split(".")[-1])}
        return f"{where}: no such field: {unknown[1]}.{nearest(unknown[1], known)}"
    return f"{where}: {type(error).__name__}: {text}"


def _check_fields(argv: list[str]) -> None:
    config_given = False
    for argument in argv:
        config_given |= re.match(r"--?config(=|$)", argument) is not None
        found = re.match(r"--?(?:no)?config\.([^=]+)", argument)
        if found and found[1] not in FIELDS:
            name = found[1]
            raise UserError(f"No such field: config.{name}.{nearest(name, FIELDS)}")
        if found and not config_given:
            raise UserError(f"Put --config=FILE before what overrides it: {argument}.")


def _flag_value(argv: list[str], name: str) -> str | None:
    """The last value of --name=VALUE or --name VALUE."""
    value = None
    for argument, following in zip(argv, [*argv[1:], None], strict=True):
        if argument in (f"--{name}", f"-{name}"):
            value = following
        elif argument.startswith((f"--{name}=", f"-{name}=")):
            value = argument.partition("=")[2]
    return value


def _known_configs() -> str:
    found = sorted(map(str, Path("configs").glob("*.py")))
    return f"\nHere are: {', '.join(found)}" if found else ""
