"""What an expression gives: the names and operators of Python. Calls are in calls.py, statements in flow.py."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

from inputgrad.scan import names
from inputgrad.scan.values import (
    DEAD,
    NOBODY,
    TRAINING,
    UNKNOWN,
    Mark,
    Value,
    added,
    bent,
    cut,
    joined,
    known,
    multiplied,
    whole,
)

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass
class File:
    """What is known of a file before its functions are followed."""

    tree: ast.Module
    found: dict[Mark, int] = field(default_factory=dict)
    """Every constant that reaches a loss, and the line where it does."""
    inlined: int = 0

    @cached_property
    def imports(self) -> dict[str, str]:
        return names.imports(self.tree)

    @cached_property
    def retained(self) -> set[str]:
        return names.retained(self.tree)

    @cached_property
    def parameters(self) -> set[str]:
        return names.parameters(self.tree)


class Expressions(ABC):
    """The values of expressions, by the names of one run of one function."""

    def __init__(self, file: File, outer: Expressions | None = None, owner: ast.ClassDef | None = None) -> None:
        self.file, self.outer, self.owner = file, outer, owner
        self.env: dict[str, Value] = {}
        self.kept: dict[str, Value] = {}  # self.name -> value, shared by the methods that call each other
        self.arguments: set[str] = set()
        self.backward = ""  # the last .backward(): "plain", "graph" or none yet
        self.constant = False  # under torch.no_grad()

    @abstractmethod
    def call(self, node: ast.Call) -> Value:
        """What a call gives."""

    def full(self, node: ast.expr) -> str:
        """'torch.autograd.grad' for whatever name the file gives it, else ''."""
        place = names.path(node)
        first, dot, rest = place.partition(".")
        if not place or self.lookup(first) is not None:
            return ""
        origin = self.file.imports.get(first) or names.ROOTS.get(first, "")
        return f"{origin}{dot}{rest}" if origin else ""

    def lookup(self, key: str) -> Value | None:
        if key.startswith("self."):
            return self.kept.get(key)
        if key in self.env:
            return self.env[key]
        return self.outer.lookup(key) if self.outer is not None else None

    def store(self, key: str, value: Value) -> None:
        (self.kept if key.startswith("self.") else self.env)[key] = value

    def value(self, node: ast.expr | None) -> Value:
        """What an expression gives; under torch.no_grad() nothing follows the weights."""
        if node is None:
            return DEAD
        found = self.raw(node)
        computed = isinstance(node, ast.Call | ast.BinOp | ast.UnaryOp)
        return self.without_graph(found, node, "no_grad") if computed and self.constant and found.alive else found

    def without_graph(self, value: Value, node: ast.expr | ast.stmt, kind: str) -> Value:
        if value.items is not None:
            return replace(value, items=tuple(self.without_graph(v, node, kind) for v in value.items))
        return cut(value, lambda at: self.mark(node, kind, at))

    def mark(self, node: ast.expr | ast.stmt, kind: str, at: frozenset[str]) -> Mark:
        return Mark(node.lineno, node.end_lineno or node.lineno, kind, " ".join(ast.unparse(node).split()), at)

    def raw(self, node: ast.expr) -> Value:
        match node:
            case ast.Constant():
                return known(node.value)
            case ast.Name():
                return self.named(node.id)
            case ast.Attribute():
                return self.attribute(node)
            case ast.Subscript():
                return self.subscript(node)
            case ast.Call():
                return self.call(node)
            case ast.BinOp():
                return self.binary(node)
            case ast.UnaryOp():
                inner = self.value(node.operand)
                if isinstance(node.op, ast.Not):
                    literal = inner.literal
                    return known(literal if literal in (UNKNOWN, TRAINING) else not literal)
                return replace(inner, literal=UNKNOWN, leaf=False)
            case ast.BoolOp():
                return self.boolean(node)
            case ast.IfExp():
                return self.either(node)
            case _:
                return self.collection(node)

    def named(self, name: str) -> Value:
        found = self.lookup(name)
        if found is not None:
            return found
        return Value(names=frozenset([name]), weights=name in self.file.parameters or names.has(name, names.WEIGHTS))

    def attribute(self, node: ast.Attribute) -> Value:
        base, place = self.value(node.value), names.path(node)
        if node.attr == "training":
            return known(TRAINING)
        if node.attr in names.FACTS:
            return DEAD
        if node.attr == "grad":
            return self.left_in_grad(node, base)
        if node.attr == "data":
            return self.without_graph(base, node, "cut")
        if node.attr in ("T", "mT", "real", "H"):
            return replace(base, names=NOBODY)
        if place and (found := self.lookup(place)) is not None:
            return found
        if place in self.file.parameters:
            return Value(live=True, weights=True, names=frozenset([place]))
        weights = names.has(node.attr, names.WEIGHTS)
        held = Value(live=base.live, gradient=base.gradient, marks=base.marks)
        return replace(held, names=frozenset([place] if place else []), weights=weights, unsure=not self.given(place))

    def given(self, place: str) -> bool:
        """Whether it is a part of an argument, such as batch.pos, and not of the model."""
        root = place.partition(".")[0].partition("[")[0]
        return root in self.arguments and root not in ("self", "cls") and not names.has(root, names.MODELS)

    def left_in_grad(self, node: ast.Attribute, base: Value) -> Value:
        """x.grad: a constant, where a backward() without create_graph=True ran before."""
        place = names.path(node.value)
        told = base.leaf or ("." in place and place.rpartition(".")[2] in self.file.retained)
        if base.weights or not place or not self.backward or (base.unsure and not told):
            return DEAD
        if not told and place.partition(".")[0].partition("[")[0] not in self.arguments:
            return DEAD
        at = base.names | {place}
        if self.backward == "graph":
            return Value(gradient=at)
        return Value(marks=frozenset([self.mark(node, "training" if self.backward == "training" else "backward", at)]))

    def subscript(self, node: ast.Subscript) -> Value:
        place = names.path(node)
        if place and (found := self.lookup(place)) is not None:
            return found
        base = self.value(node.value)
        index = node.slice.value if isinstance(node.slice, ast.Constant) else None
        if base.items is not None and isinstance(index, int) and -len(base.items) <= index < len(base.items):
            return base.items[index]
        if base.entries is not None and isinstance(index, str):
            return dict(base.entries).get(index, DEAD)
        picked = whole(base)
        kept = picked.names | ({place} if place else set())
        return replace(
            picked, items=None, entries=None, literal=UNKNOWN, names=frozenset(kept), leaf=False, function=None
        )

    def binary(self, node: ast.BinOp) -> Value:
        left, right = self.value(node.left), self.value(node.right)
        match node.op:
            case ast.Add() | ast.Sub():
                return added([left, right])
            case ast.Mult() | ast.Div() | ast.MatMult():
                return multiplied([left, right])
            case ast.BitOr():
                return left if left.entries is not None else added([left, right])
            case _:
                return bent([left, right], reduces=False)

    def boolean(self, node: ast.BoolOp) -> Value:
        parts = [self.value(part) for part in node.values]
        if any(part.literal is TRAINING for part in parts):
            return known(TRAINING)
        found = parts[0]
        for part in parts[1:]:
            found = joined(found, part)
        return replace(found, literal=UNKNOWN)

    def either(self, node: ast.IfExp) -> Value:
        test, body, other = self.value(node.test), self.value(node.body), self.value(node.orelse)
        if test.literal is TRAINING and isinstance(body.literal, bool) and isinstance(other.literal, bool):
            return known(TRAINING)
        return joined(body, other)

    def collection(self, node: ast.expr) -> Value:
        match node:
            case ast.Tuple() | ast.List():
                if any(isinstance(part, ast.Starred) for part in node.elts):
                    return added([self.value(part) for part in node.elts])
                return Value(items=tuple(self.value(part) for part in node.elts))
            case ast.Dict():
                values = [
                    (k.value if isinstance(k, ast.Constant) else None, self.value(v)) for k, v in self.pairs(node)
                ]
                return Value(entries=tuple((k if isinstance(k, str) else "", v) for k, v in values))
            case ast.ListComp() | ast.GeneratorExp() | ast.SetComp():
                with self.loops(node.generators):
                    return replace(whole(self.value(node.elt)), names=NOBODY, literal=UNKNOWN)
            case ast.Starred() | ast.Await() | ast.NamedExpr():
                found = self.value(node.value)
                if isinstance(node, ast.NamedExpr):
                    self.bind(node.target, found)
                return found
            case ast.Lambda():
                return Value(function=node)
            case _:
                return DEAD

    def pairs(self, node: ast.Dict) -> Iterator[tuple[ast.expr | None, ast.expr]]:
        return iter(zip(node.keys, node.values, strict=True))

    @contextmanager
    def loops(self, generators: list[ast.comprehension]) -> Iterator[None]:
        """The names of a comprehension, while it runs."""
        before = dict(self.env)
        for generator in generators:
            self.bind(generator.target, self.element(self.value(generator.iter)))
        yield
        self.env = before

    def element(self, value: Value) -> Value:
        """One of what a loop goes through."""
        inside = value.items or tuple(v for _, v in value.entries or ())
        if inside:
            found = inside[0]
            for other in inside[1:]:
                found = joined(found, other)
            return replace(found, literal=UNKNOWN)
        return replace(value, names=NOBODY, literal=UNKNOWN, leaf=False, unsure=True, items=None, entries=None)

    def bind(self, target: ast.expr, value: Value) -> None:
        """Give a value to a name, to each of several, or to a part of something."""
        match target:
            case ast.Tuple() | ast.List():
                alone = value.items is not None and len(value.items) == len(target.elts)
                for n, part in enumerate(target.elts):
                    taken = value.items[n] if alone and value.items is not None else self.part(value)
                    self.bind(part.value if isinstance(part, ast.Starred) else part, taken)
            case ast.Name() | ast.Attribute():
                place = names.path(target)
                if place and not place.endswith((".grad", ".data")):
                    fresh = value.names | ({place} if not value.marks else set())
                    self.store(place, replace(value, names=frozenset(fresh)))
            case ast.Subscript():
                self.put(target, value)
            case _:
                pass

    def part(self, value: Value) -> Value:
        return replace(whole(value), literal=UNKNOWN, leaf=value.leaf, items=None, entries=None)

    def put(self, target: ast.Subscript, value: Value) -> None:
        """d["k"] = v keeps its key; jacobian[:, i] = g makes the whole hold it."""
        if place := names.path(target):
            self.store(place, value)
        base = names.path(target.value)
        if not base:
            return
        held = self.lookup(base) or DEAD
        if held.entries is not None and isinstance(target.slice, ast.Constant):
            entries = dict(held.entries) | {str(target.slice.value): value}
            self.store(base, replace(held, entries=tuple(entries.items())))
        else:
            marks = held.marks | whole(value).marks
            self.store(
                base, replace(held, live=held.live or value.live, gradient=held.gradient | value.gradient, marks=marks)
            )
