"""Who may import whom: a module imports from its own layer or a lower one (docs/structure.md draws them)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = """
inputgrad.errors inputgrad.registry inputgrad.files inputgrad.tasks
inputgrad.gradients
inputgrad.losses inputgrad.attacks inputgrad.strengths inputgrad.step inputgrad.stacked
inputgrad.audit inputgrad.robustness inputgrad.scan inputgrad.testing
inputgrad inputgrad.cli inputgrad.__main__
pipeline pipeline.quiet pipeline.layout pipeline.interrupts pipeline.progress pipeline.repository
pipeline.imports pipeline.fingerprint pipeline.store
pipeline.workers pipeline.data pipeline.models
pipeline.study pipeline.dvc
pipeline.results
pipeline.report pipeline.tracking
pipeline.stages
pipeline.search
pipeline.doctor pipeline.completion pipeline.evaluated pipeline.kept pipeline.loading pipeline.listing pipeline.pages
pipeline.pruning pipeline.skeleton
pipeline.cli pipeline.__main__
"""
"""A line is a layer, the lowest first. What a folder's line does not name one by one has the folder's layer."""

LAYER_OF = {part: number for number, line in enumerate(LAYERS.split("\n")) for part in line.split()}
ALONE = ("inputgrad", "pipeline")
"""The packages themselves are a layer's part, but give none to the modules in them: a new module needs a line above."""


def layer(module: str) -> int:
    """The layer of the longest part of LAYERS that the module is or lies in."""
    parts = module.split(".")
    found = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next(LAYER_OF[name] for name in found if name in LAYER_OF and (name == module or name not in ALONE))


def modules() -> dict[str, Path]:
    """Every module of both packages, by its name."""
    files = [file for package in ALONE for file in sorted((ROOT / package).rglob("*.py"))]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return dict(zip(names, files, strict=True))


MODULES = modules()


def imports(text: str) -> Iterator[str]:
    """Our modules that this code imports, at its top or inside functions; those for type checkers alone left out."""
    nodes: list[ast.AST] = [ast.parse(text)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes += node.orelse
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] in ALONE)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write imports with their whole path"
            whole = [f"{node.module}.{name.name}" for name in node.names]
            yield from (name if name in MODULES else str(node.module) for name in whole if name.split(".")[0] in ALONE)
        else:
            nodes += ast.iter_child_nodes(node)


def against_the_order(module: str, text: str) -> list[str]:
    """The imports of a module that go upwards."""
    return sorted({f"{module} -> {other}" for other in imports(text) if layer(other) > layer(module)})


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_its_own_layer_or_a_lower_one(module):
    assert against_the_order(module, MODULES[module].read_text(encoding="utf-8")) == []


def test_an_import_against_the_order_is_noticed():
    assert against_the_order("inputgrad.errors", "def f():\n    from pipeline import store") == [
        "inputgrad.errors -> pipeline.store"
    ]
    assert against_the_order("inputgrad.losses.pgd", "import inputgrad.audit") != []
    assert against_the_order("inputgrad.losses.pgd", "from inputgrad import audit") != []
    assert against_the_order("inputgrad.audit.probe", "from inputgrad import losses") == []
    assert against_the_order("inputgrad.losses.pgd", "if TYPE_CHECKING:\n    import inputgrad.audit") == []
