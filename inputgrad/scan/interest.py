"""Which functions of a file can hold what is looked for: a scan of a large repository follows those alone."""

from __future__ import annotations

import ast

from inputgrad.scan import names

TAKEN = {"grad", "jacobian", "hessian", "vjp", "jvp", "hvp", "vhp", "jacrev", "jacfwd", "grad_and_value", "linearize"}
"""Names by which an input gradient is taken: x.grad, autograd.grad, torch.func.jacrev, …"""


def interesting(tree: ast.Module, imported: dict[str, str]) -> set[ast.AST]:
    """The functions in which an input gradient is taken, and those that call them, the file itself among them.

    Empty where nothing of the file is a loss either: no function with such a name, and no backward().
    """
    wanted = TAKEN | {name for name, origin in imported.items() if origin.rsplit(".", 1)[-1] in TAKEN}
    uses: dict[ast.AST, set[str]] = {}
    collect(tree, uses)
    if not any(is_loss(node) for node in uses) and not any({"backward", "manual_backward"} & u for u in uses.values()):
        return set()
    found = {node for node, used in uses.items() if used & wanted}
    while True:
        called = {node.name for node in found if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        more = {node for node, used in uses.items() if node not in found and used & called}
        if not more:
            return found
        found |= more


def is_loss(node: ast.AST) -> bool:
    """Whether a function gives a loss by its own name; the names of classes are in their methods' entries."""
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
        names.gives_loss(node.name)
        or node.name in ("forward", "__call__")
        or any(names.has(a.arg, names.MODELS) for a in node.args.args)
    )


def collect(node: ast.AST, uses: dict[ast.AST, set[str]]) -> set[str]:
    """The names and attributes that stand in a node, and those of each function in it."""
    found: set[str] = set()
    stack = list(ast.iter_child_nodes(node))
    while stack:
        part = stack.pop()
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            found |= collect(part, uses)
            continue
        if isinstance(part, ast.Attribute):
            found.add(part.attr)
        elif isinstance(part, ast.Name):
            found.add(part.id)
        stack.extend(ast.iter_child_nodes(part))
    uses[node] = found
    return found


def steps(function: ast.AST) -> bool:
    """Whether a function makes an optimiser's step: what it returns is for the records, then."""
    return any(
        isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr == "step"
        for n in ast.walk(function)
    )
