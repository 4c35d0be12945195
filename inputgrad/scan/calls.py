"""What a call gives: autograd's derivatives, the functions of torch, the functions of the same file, and all others."""

from __future__ import annotations

import ast
from abc import abstractmethod
from dataclasses import replace

from inputgrad.scan import names
from inputgrad.scan.expressions import Expressions, Function
from inputgrad.scan.values import (
    DEAD,
    DERIVATIVE,
    LIVE,
    TRAINING,
    UNKNOWN,
    Value,
    added,
    bent,
    multiplied,
    reduced,
    whole,
)

TAKES = {"jacobian": 1, "hessian": 1, "vjp": 1, "jvp": 1, "hvp": 1, "vhp": 1}
"""torch.autograd.functional: all take (function, inputs), and create_graph is False unless it is said."""
TRANSFORMS = {"grad", "grad_and_value", "jacrev", "jacfwd", "hessian"}


class Calls(Expressions):
    """Calls, seen from one run of one function."""

    @abstractmethod
    def inline(self, function: Function, node: ast.Call, owner: ast.ClassDef | None) -> Value | None:
        """What a function of the same file gives for these arguments; None where it cannot be followed."""

    @abstractmethod
    def function_of(self, node: ast.expr) -> tuple[Function, ast.ClassDef | None] | None:
        """The function of the same file that is called, and the class whose method it is."""

    @abstractmethod
    def reaches(self, value: Value, line: int) -> None:
        """A value on which .backward() is called."""

    def call(self, node: ast.Call) -> Value:
        full = self.full(node.func)
        if full == "torch.autograd.grad":
            return self.derivative(node, "no_graph", [*node.args[:1], *keyword(node, "outputs")])
        if full.startswith("torch.autograd.functional.") and full.rsplit(".", 1)[1] in TAKES:
            return self.functional(node, full.rsplit(".", 1)[1])
        if full == "torch.autograd.backward":
            return self.run_backward([*node.args[:1], *keyword(node, "tensors")], node, 3)
        if full.startswith(("torch.func.", "functorch.", "torch.vmap", "torch._functorch.")):
            return self.transformed(node, full.rsplit(".", 1)[1])
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("backward", "manual_backward") and not full:
            return self.backward_method(node, node.func)
        if (function := self.function_of(node.func)) is not None:
            found = self.inline(function[0], node, function[1])
            if found is not None:
                return found
        given = [self.value(a) for a in node.args] + [self.value(k.value) for k in node.keywords]
        if full.startswith(names.LIBRARIES):
            return self.applied(full.rsplit(".", 1)[1], given, node)
        if isinstance(node.func, ast.Attribute) and not full:
            return self.method(node, node.func, given)
        return self.unknown(node, given)

    def derivative(self, node: ast.Call, kind: str, outputs: list[ast.expr]) -> Value:
        """torch.autograd.grad: a gradient of the weights is none of ours."""
        inputs = next(iter([*node.args[1:2], *keyword(node, "inputs")]), None)
        at = self.value(inputs)
        for value in (*outputs, *([inputs] if inputs is not None else [])):
            self.follows(value, at)
        parts = at.items if at.items is not None else (at,)
        if inputs is None or any(p.weights for p in parts) or (at.unsure and not at.leaf):
            return DEAD
        place = names.path(inputs)
        taken = tuple(self.gradient(node, kind, p.names | ({place} if place else set())) for p in parts)
        return Value(items=taken)

    def gradient(self, node: ast.Call, kind: str, at: frozenset[str]) -> Value:
        graph = self.graph(node, 4 if kind == "no_graph" else 2)
        at = at or frozenset(["?"])
        if graph == "graph":
            return Value(gradient=at)
        return Value(marks=frozenset([self.mark(node, "training" if graph == "training" else kind, at)]))

    def graph(self, node: ast.Call, position: int) -> str:
        """What create_graph is: "graph", "training" or "plain"; what is not known is taken as True."""
        said = [*keyword(node, "create_graph"), *node.args[position : position + 1]]
        if not said:
            spread = any(k.arg is None for k in node.keywords) or any(isinstance(a, ast.Starred) for a in node.args)
            return "graph" if spread else "plain"
        literal = self.value(said[0]).literal
        if literal is TRAINING:
            return "training"
        return "plain" if literal is False or literal is None else "graph"

    def follows(self, node: ast.expr, at: Value) -> None:
        """What was differentiated follows the weights, and so may an input that nobody made a leaf here."""
        wanted = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
        called = {id(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)}
        for name in wanted:
            held = self.lookup(name.id)
            if held is None or id(name) in called or held.leaf or held.function is not None:
                continue
            if not held.gradient and not held.marks and held.items is None and held.literal is UNKNOWN:
                self.store(name.id, replace(held, live=True))

    def functional(self, node: ast.Call, name: str) -> Value:
        inputs = next(iter([*node.args[1:2], *keyword(node, "inputs")]), None)
        at = self.value(inputs)
        if inputs is None or at.weights or any(p.weights for p in at.items or ()):
            return DEAD
        position = 2 if name in ("jacobian", "hessian") else 3
        found = self.gradient(node, "functional", at.names) if self.graph(node, position) != "graph" else LIVE
        return found if name in ("jacobian", "hessian") else Value(items=(LIVE if found is LIVE else DEAD, found))

    def transformed(self, node: ast.Call, name: str) -> Value:
        """torch.func: what they give carries its graph, unless torch.no_grad() is around."""
        given = [self.value(a) for a in node.args]
        at = frozenset[str]().union(*(v.names for v in given[1:])) or frozenset(["?"])
        if name in TRANSFORMS or (name == "vmap" and given and given[0].callee == DERIVATIVE):
            return Value(callee=DERIVATIVE)
        if name in ("jvp", "linearize"):
            return Value(items=(LIVE, Value(gradient=at)))
        if name == "vjp":
            return Value(items=(LIVE, Value(callee=DERIVATIVE)))
        return DEAD if name == "vmap" else LIVE

    def run_backward(self, tensors: list[ast.expr], node: ast.Call, position: int) -> Value:
        for tensor in tensors:
            value = self.value(tensor)
            self.reaches(value, node.lineno)
            self.follows(tensor, DEAD)
        self.backward = self.graph(node, position)
        return DEAD

    def backward_method(self, node: ast.Call, func: ast.Attribute) -> Value:
        """loss.backward(), and accelerator.backward(loss) or self.manual_backward(loss)."""
        receiver = self.value(func.value)
        handed = node.args[:1] if func.attr == "manual_backward" or not (receiver.alive or receiver.marks) else []
        self.reaches(receiver, node.lineno)
        for tensor in handed:
            if (value := self.value(tensor)).live:
                self.reaches(value, node.lineno)
        self.follows(func.value, DEAD)
        self.backward = self.graph(node, 2)
        return DEAD

    def method(self, node: ast.Call, func: ast.Attribute, given: list[Value]) -> Value:
        receiver, name = self.value(func.value), func.attr
        if name in ("requires_grad_", "retain_grad"):
            return self.told(func.value, receiver, given, name)
        if name in ("scale", "unscale", "scale_loss") and given:  # of a GradScaler
            return self.passed(name, given, leaf=False)
        if name in ("append", "extend", "update", "add_scalar") and (place := names.path(func.value)):
            if name in ("append", "extend"):
                self.store(place, added_to(receiver, given))
            return DEAD
        if name in ("parameters", "named_parameters", "trainable_variables"):
            return Value(weights=True)
        if name in ("items", "values", "keys", "pop", "get") and (receiver.entries is not None or receiver.weights):
            return replace(whole(receiver), names=receiver.names)
        of_tensor = name in names.PASS | names.SUMS | names.PRODUCTS | names.REDUCES | names.CUTTING | names.NOTHING
        if of_tensor or receiver.marks or receiver.gradient:
            return self.applied(name, [receiver, *given], node)
        return self.unknown(node, given)

    def told(self, node: ast.expr, receiver: Value, given: list[Value], name: str) -> Value:
        """x.requires_grad_(): a leaf from here on; retain_grad() leaves its graph as it is."""
        if given and given[0].literal is False:
            return receiver
        found = replace(receiver, leaf=True, unsure=False, live=receiver.live and name == "retain_grad")
        if place := names.path(node):
            self.store(place, replace(found, names=found.names | {place}))
        return found

    def applied(self, name: str, given: list[Value], node: ast.Call) -> Value:
        """A function of torch or NumPy, or a method of a tensor."""
        leaf = any(k.arg == "requires_grad" and self.value(k.value).literal is True for k in node.keywords)
        if name in names.NOTHING:
            return Value(leaf=leaf)
        if name in names.CUTTING:
            kind = "item" if name in names.NUMBERS else "cut"
            found = self.without_graph(given[0] if given else DEAD, node, kind)
            return replace(found, leaf=leaf)
        if name in names.PASS:
            return self.passed(name, given, leaf)
        if name in names.SUMS:
            return reduced(replace(added(given[:1]), literal=UNKNOWN))
        if name in names.PRODUCTS | {"einsum"}:
            found = multiplied(given)
            return reduced(found) if name in names.REDUCES else found
        return bent(given, reduces=name in names.REDUCES or names.has(name, names.COMPARES))

    def passed(self, name: str, given: list[Value], leaf: bool) -> Value:
        """A copy, another shape, or several put together."""
        first = given[0] if given else DEAD
        if name in ("list", "tuple", "reversed", "sorted"):
            return first
        if name in ("add", "sub", "add_", "sub_", "subtract"):
            return added(given)
        if name in ("chunk", "split", "unbind"):
            return replace(whole(first), items=None, leaf=first.leaf)
        if first.items is not None or first.entries is not None:
            return replace(added([first]), leaf=leaf)
        if name == "Variable" and leaf:
            return replace(first, live=False, leaf=True, unsure=False)
        return replace(first, leaf=leaf or (first.leaf and name == "to"), literal=UNKNOWN)

    def unknown(self, node: ast.Call, given: list[Value]) -> Value:
        """A model, a criterion, a function of another file."""
        func = node.func
        if isinstance(func, ast.Call):
            return self.called(node, func, given)
        name = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
        held = self.value(func)
        if held.callee == DERIVATIVE:
            return derivative_at(given)
        if isinstance(func, ast.Name) and func.id in BUILTIN and self.lookup(func.id) is None:
            return self.builtin(node, func.id, given)
        name = held.callee or name
        if names.has(name, names.COMPARES):
            return replace(bent(given, reduces=True), callee=name)
        if any(v.marks for v in given) and name in ("norm", "safe_norm"):
            return bent(given, reduces=True)
        literal = all(v.literal is not UNKNOWN for v in given)
        return DEAD if literal or self.constant else LIVE

    def called(self, node: ast.Call, func: ast.Call, given: list[Value]) -> Value:
        """nn.MSELoss()(g, target), and vmap(grad(f))(x)."""
        made = self.value(func)
        if made.callee == DERIVATIVE:
            return derivative_at(given)
        name = names.path(func.func).rsplit(".", 1)[-1]
        return bent(given, reduces=True) if names.has(name, names.COMPARES) else LIVE

    def builtin(self, node: ast.Call, name: str, given: list[Value]) -> Value:
        first = given[0] if given else DEAD
        if name == "float":
            return self.without_graph(first, node, "item")
        if name == "sum":
            return added(given)
        if name in ("list", "tuple", "reversed", "sorted", "iter"):
            return first
        if name == "next":
            return self.element(first)
        if name in ("zip", "enumerate"):
            return self.together(name, given)
        return bent(given, reduces=False) if name in ("abs", "max", "min", "pow") else self.applied(name, given, node)

    def together(self, name: str, given: list[Value]) -> Value:
        """What a loop over zip(...) or enumerate(...) takes apart again: a list of one tuple."""
        parts = tuple(self.element(v) for v in given)
        inner = Value(items=(DEAD, *parts[:1]) if name == "enumerate" else parts)
        return Value(items=(inner,))


BUILTIN = {
    "float", "int", "sum", "list", "tuple", "reversed", "sorted", "iter", "next", "zip", "enumerate", "abs",
    "max", "min", "pow", "len", "range", "print", "isinstance", "str", "repr", "format", "hasattr", "id", "bool",
    "type", "any", "all",
}  # fmt: skip


def keyword(node: ast.Call, name: str) -> list[ast.expr]:
    return [k.value for k in node.keywords if k.arg == name]


def added_to(receiver: Value, given: list[Value]) -> Value:
    """A list after append or extend: all that is in it."""
    inside = added([replace(receiver, items=receiver.items or None), *given])
    return replace(inside, names=receiver.names)


def derivative_at(given: list[Value]) -> Value:
    at = frozenset[str]().union(*(v.names for v in given))
    return Value(gradient=at or frozenset(["?"]))
