"""The documentation: links resolve, commands name what exists, the README stays short."""

import ast
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import yaml

from alexnet_jax.config.fields import FIELDS

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "experiments").rglob("README.md")),
]
README_LINES = 150


def name_of(page):
    return str(page.relative_to(ROOT))


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_code(page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def without_code(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def code_blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def commands(page):
    """Shell commands of a page: those of its sh blocks and those in backticks."""
    text = page.read_text()
    lines = "\n".join(code_blocks(text, "sh")).replace("\\\n", " ").splitlines()
    inline = re.findall(r"`((?:python|pip) [^`]*)`", without_code(text))
    return [line.strip() for line in (*lines, *inline) if line.strip()]


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < README_LINES


def test_readme_has_the_two_commands_of_a_fresh_machine():
    """`.ci/run` takes the second one from the README."""
    lines = (ROOT / "README.md").read_text().splitlines()
    install = r"pip install -c constraints\.txt -e "
    run = rf"{install}\. && python -m alexnet_jax\.main --config=configs/\w+\.py"
    test = rf"{install}'\.\[test\]' && pytest"
    for wanted in (run, test):
        assert any(re.fullmatch(wanted, line) for line in lines), wanted


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page):
    text = without_code(page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target):  # another site
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_name_what_exists(page):
    text = page.read_text()
    for config in re.findall(r"configs/[a-z]\w*\.py", text):  # NAME: any
        assert (ROOT / config).is_file(), config
    for module in re.findall(r"python -m ([\w.]+)", text):
        if module != "venv":
            assert importlib.util.find_spec(module) is not None, module
    for path in re.findall(r"\b(?:tests|alexnet_jax|benchmarks)/[\w/]+\.py\b", text):
        assert (ROOT / path).is_file(), path
    for field in re.findall(r"--config\.([a-z]+\.[a-z0-9_]+)", text):
        assert field in FIELDS, field


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_parse(page):
    for line in commands(page):
        shlex.split(line, comments=True)  # raises where a quotation is left open


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_examples_parse(page):
    for source in code_blocks(page.read_text(), "python"):
        ast.parse(source)


def test_architecture_names_every_module():
    text = (ROOT / "docs/architecture.md").read_text()
    modules = {path.name for path in (ROOT / "alexnet_jax").rglob("*.py")}
    named = set(re.findall(r"\w+\.py\b", text))
    assert modules - named == {"__init__.py"}
    assert {name for name in named if not name.startswith("test_")} <= modules


def test_the_example_of_a_config_runs():
    blocks = code_blocks((ROOT / "docs/experiments.md").read_text(), "python")
    (source,) = (block for block in blocks if "def get_config" in block)
    names = {}
    exec(source, names)
    config = names["get_config"]()
    assert set(config.claim["compare"]) == set(config.arms)


def test_citation_names_this_code_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    (paper,) = citation["references"]
    assert (paper["year"], len(paper["authors"])) == (2012, 3)
    assert {"type", "title"} <= set(paper)


def test_hooks_and_workflow_call_local_tools():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert {repo["repo"] for repo in hooks} == {"local"}
    assert {hook["language"] for repo in hooks for hook in repo["hooks"]} == {"system"}
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = workflow["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
