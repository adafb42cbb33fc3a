"""The code layout keeps its limits: sizes of files and functions, imports, names.

docs/architecture.md has the rules. The floors (who may import whom) are import-linter's, in
pyproject.toml.
"""

import ast
import dataclasses
import functools
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "alexnet_jax"
SOURCES = (PACKAGE, "benchmarks")
MAX_TOP_LEVEL = 10  # modules directly in the package
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 8
MAX_MEAN_IMPORTS = 3.0  # of the package's files, each imported module counted once
MAX_README_LINES = 150

Function = ast.FunctionDef | ast.AsyncFunctionDef
EXEMPT_NAMES = ("__init__", "__main__")


@dataclasses.dataclass(frozen=True)
class Module:
    """One source file.

    Attributes:
      name: dotted, "alexnet_jax.model" for alexnet_jax/model/__init__.py.
    """

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def place(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def package(self) -> str:
        """The package that its relative imports start from."""
        return (
            self.name if self.path.stem == "__init__" else self.name.rpartition(".")[0]
        )


@functools.cache
def modules() -> dict[str, Module]:
    """Every source file of the package and the benchmarks, by dotted name."""
    found = {}
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            text = path.read_text()
            found[name] = Module(name, path, text, ast.parse(text))
    return found


def functions(module: Module) -> list[Function]:
    return [node for node in ast.walk(module.tree) if isinstance(node, Function)]


def imported(module: Module) -> set[str]:
    """The project's modules that a file imports, imports inside functions included.

    `from alexnet_jax.x import a, b` is alexnet_jax.x where a and b are its attributes, and
    alexnet_jax.x.a where that is a module.
    """
    found = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, *filter(None, [base])])
            for alias in node.names:
                submodule = f"{base}.{alias.name}"
                found.add(submodule if submodule in modules() else base)
    return {name for name in found if name in modules()} - {module.name}


def parameters(function: Function) -> list[str]:
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    every += [one for one in (given.vararg, given.kwarg) if one is not None]
    return [one.arg for one in every if one.arg not in ("self", "cls")]


def listed(offenders: list[str]) -> str:
    return "\n" + "\n".join(offenders)


def test_few_modules_at_the_top_level():
    top = [path.name for path in (ROOT / PACKAGE).glob("*.py")]
    top = sorted(set(top) - {"__init__.py"})
    assert len(top) <= MAX_TOP_LEVEL, f"{len(top)}: {', '.join(top)}"


def test_no_file_is_long():
    lengths = {m.place: len(m.text.splitlines()) for m in modules().values()}
    long = [f"{p}: {n} lines" for p, n in lengths.items() if n > MAX_FILE_LINES]
    assert not long, listed(long)


def test_no_function_is_long():
    long = []
    for module in modules().values():
        for function in functions(module):
            # The decorators are not counted; the docstring is.
            length = function.end_lineno - function.lineno + 1
            if length > MAX_FUNCTION_LINES:
                place = f"{module.place}:{function.lineno}"
                long.append(f"{place} {function.name}: {length} lines")
    assert not long, listed(long)


def test_no_signature_has_many_parameters():
    many = []
    for module in modules().values():
        for function in functions(module):
            count = len(parameters(function))
            if count > MAX_PARAMETERS:
                place = f"{module.place}:{function.lineno}"
                many.append(f"{place} {function.name}: {count} parameters")
    assert not many, listed(many)


def test_few_internal_imports_per_file():
    counts = {
        module.place: len(imported(module))
        for name, module in modules().items()
        if name.split(".")[0] == PACKAGE
    }
    mean = sum(counts.values()) / len(counts)
    most = sorted(counts.items(), key=lambda item: -item[1])[:15]
    assert mean <= MAX_MEAN_IMPORTS, (
        f"{mean:.2f} on average over {len(counts)} files; most: "
        + listed([f"{place}: {count}" for place, count in most])
    )


def test_no_circle_of_imports():
    """A module's package is not counted: importing it is how Python finds the module."""
    graph = {name: imported(module) for name, module in modules().items()}
    circles = sorted(
        " <-> ".join(sorted(part)) for part in components(graph) if len(part) > 1
    )
    assert not circles, listed(circles)


def components(graph: dict[str, set[str]]) -> list[set[str]]:
    """Strongly connected components: modules that import each other in a circle."""

    def reachable(start: str) -> set[str]:
        found, waiting = set(), [start]
        while waiting:
            for name in graph[waiting.pop()] - found:
                found.add(name)
                waiting.append(name)
        return found

    reach = {name: reachable(name) for name in graph}
    parts, placed = [], set()
    for name in graph:
        if name not in placed:
            part = {other for other in reach[name] if name in reach[other]} | {name}
            parts.append(part)
            placed |= part
    return parts


def test_no_two_modules_or_classes_share_a_name():
    places = defaultdict(list)
    for module in modules().values():
        if module.path.stem not in EXEMPT_NAMES:
            places[f"module {module.path.stem}"].append(module.place)
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                places[f"class {node.name}"].append(f"{module.place}:{node.lineno}")
    shared = [f"{name}: {', '.join(p)}" for name, p in places.items() if len(p) > 1]
    assert not shared, listed(shared)


def test_an_import_inside_a_function_says_why():
    """By a comment on its line, or on the line above it or above its block of imports."""
    silent = []
    for module in modules().values():
        lines = ["", *module.text.splitlines()]
        nested = {
            node.lineno: node.end_lineno
            for function in functions(module)
            for node in ast.walk(function)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        explained = set()
        for first, last in sorted(nested.items()):
            above = lines[first - 1].strip()
            if (
                any("#" in line for line in lines[first : last + 1])
                or above.startswith("#")
                or first - 1 in explained
            ):
                explained.add(last)
            else:
                silent.append(f"{module.place}:{first} {lines[first].strip()}")
    assert not silent, listed(silent)


def test_the_readme_is_short():
    length = len((ROOT / "README.md").read_text().splitlines())
    assert length < MAX_README_LINES, f"README.md has {length} lines"
