"""One run of one function: its statements in order, the functions that it calls, and what of it is a loss."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import replace

from inputgrad.scan import interest, names
from inputgrad.scan.calls import Calls
from inputgrad.scan.expressions import Expressions, File, Function
from inputgrad.scan.values import DEAD, TRAINING, UNKNOWN, Value, joined, whole

DEEPEST = 4
"""How many calls deep functions of a file are followed."""
MOST = 2_000
"""How many calls of a file are followed; what is called after that is treated as a function of another file."""
NO_GRAPH = ("torch.no_grad", "torch.inference_mode", "torch.autograd.no_grad")


class Flow(Calls):
    """The statements of one function, or of a whole file."""

    def __init__(
        self,
        file: File,
        outer: Expressions | None = None,
        owner: ast.ClassDef | None = None,
        running: tuple[ast.AST, ...] = (),
    ) -> None:
        super().__init__(file, outer, owner)
        self.running = running
        self.returned: list[tuple[Value, int]] = []
        self.trains = False  # whether what is returned is what is trained on, by the function's name
        self.takes_model = False  # whether a sum of a task and a term that it returns is a loss: (model, x, y)
        self.asked = False  # whether a caller gave the arguments

    def run(self, function: Function, given: dict[str, Value] | None = None) -> Value:
        """The value that a function gives; without `given`, of arguments that nobody knows."""
        self.asked = given is not None
        self.take(function.args, given or {})
        if isinstance(function, ast.Lambda):
            return self.value(function.body)
        self.constant |= any(self.switch(d) is True for d in function.decorator_list)
        self.trains = self.is_loss(function)
        self.takes_model = (
            not names.has(function.name, names.NOT_TRAINED)
            and not interest.steps(function)
            and any(names.has(a.arg, names.MODELS) for a in function.args.args)
        )
        self.block(function.body)
        if not self.returned:
            return DEAD
        found = self.returned[0][0]
        for other, _ in self.returned[1:]:
            found = joined(found, other)
        return found

    def is_loss(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        by_class = (
            self.owner is not None and function.name in ("forward", "__call__") and names.gives_loss(self.owner.name)
        )
        if self.constant or not (by_class or names.gives_loss(function.name)):
            return False
        return not interest.steps(function)

    def take(self, arguments: ast.arguments, given: dict[str, Value]) -> None:
        """Bind the arguments: what a caller gave, else a default, else something unknown of that name."""
        plain = [*arguments.posonlyargs, *arguments.args]
        defaults = dict(
            zip([a.arg for a in plain[len(plain) - len(arguments.defaults) :]], arguments.defaults, strict=True)
        )
        pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        defaults |= {a.arg: d for a, d in pairs if d is not None}
        for argument in [*plain, *arguments.kwonlyargs]:
            name = argument.arg
            self.arguments.add(name)
            unknown = Value(
                names=frozenset([name]), live=names.has(name, names.FOLLOWS), weights=names.has(name, names.WEIGHTS)
            )
            default = defaults.get(name)
            if name in given:
                self.env[name] = replace(given[name], names=given[name].names | {name})
            elif isinstance(default, ast.Constant) and (self.asked or default.value is True):
                self.env[name] = replace(unknown, literal=default.value)
            else:
                self.env[name] = unknown
        for rest in (arguments.vararg, arguments.kwarg):
            if rest is not None:
                self.env[rest.arg] = DEAD

    def block(self, statements: Iterable[ast.stmt]) -> None:
        for statement in statements:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign():
                value = self.value(node.value)
                for target in node.targets:
                    self.assign(target, value)
            case ast.AnnAssign():
                if node.value is not None:
                    self.assign(node.target, self.value(node.value))
            case ast.AugAssign():
                self.augment(node)
            case ast.Expr():
                self.value(node.value)
            case ast.Return():
                self.give(node)
            case ast.If():
                self.branch(node)
            case ast.For() | ast.AsyncFor():
                self.loop(node)
            case ast.While():
                self.value(node.test)
                self.block([*node.body, *node.body, *node.orelse])
            case ast.With() | ast.AsyncWith():
                self.inside(node)
            case ast.Try() | ast.TryStar():
                self.block(node.body)
                self.block(s for handler in node.handlers for s in handler.body)
                self.block([*node.orelse, *node.finalbody])
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.env[node.name] = Value(function=node)
            case ast.Match():
                self.block(s for each in node.cases for s in each.body)
            case _:
                pass

    def assign(self, target: ast.expr, value: Value) -> None:
        if isinstance(target, ast.Attribute) and target.attr == "requires_grad":
            if value.literal is not False:
                self.told(target.value, self.value(target.value), [], "requires_grad_")
            return
        self.bind(target, value)

    def augment(self, node: ast.AugAssign) -> None:
        """The value of a + b for a += b; a list that is made longer holds both."""
        place = names.path(node.target)
        if place.endswith((".grad", ".data")):
            self.value(node.value)
            return
        load = ast.copy_location(ast.BinOp(node.target, node.op, node.value), node)
        self.bind(node.target, replace(self.value(load), names=self.value(node.target).names))

    def give(self, node: ast.Return) -> None:
        value = self.value(node.value)
        self.returned.append((value, node.lineno))
        if self.constant:
            return
        first = first_of(value)
        if self.trains or (self.takes_model and whole(first).live):
            self.reaches(first, node.lineno)

    def reaches(self, value: Value, line: int) -> None:
        """A loss: a constant gradient in it that is a penalty is found."""
        value = whole(value)
        for mark in value.marks:
            printed = mark.kind == "item" and not value.alive
            if mark.reduced and not mark.paired and not printed:
                self.file.found.setdefault(mark, line)

    def branch(self, node: ast.If) -> None:
        test = self.value(node.test).literal
        if self.asked and isinstance(test, bool):
            self.block(node.body if test else node.orelse)
            return
        before, kept, backward = dict(self.env), dict(self.kept), self.backward
        self.block(node.body)
        body, body_kept, body_backward = self.env, dict(self.kept), self.backward
        self.env, self.backward = before, backward
        self.kept.clear()
        self.kept.update(kept)
        self.block(node.orelse)
        self.env = both(body, self.env)
        merged = both(body_kept, self.kept)
        self.kept.update(merged)
        self.backward = body_backward or self.backward

    def loop(self, node: ast.For | ast.AsyncFor) -> None:
        """A loop runs twice, so that what one round leaves is there in the next."""
        through = self.value(node.iter)
        for _ in range(2):
            self.bind(node.target, self.element(through))
            self.block(node.body)
        self.block(node.orelse)

    def inside(self, node: ast.With | ast.AsyncWith) -> None:
        before = self.constant
        for item in node.items:
            switched = self.switch(item.context_expr)
            value = self.value(item.context_expr) if switched is None else DEAD
            self.constant = self.constant if switched is None else switched
            if item.optional_vars is not None:
                self.bind(item.optional_vars, value)
        self.block(node.body)
        self.constant = before

    def switch(self, node: ast.expr) -> bool | None:
        """Whether a context or a decorator turns the graph off (True), on (False), or has nothing to do with it."""
        func = node.func if isinstance(node, ast.Call) else node
        full = self.full(func)
        if full in NO_GRAPH:
            return True
        if full == "torch.enable_grad":
            return False
        if full == "torch.set_grad_enabled" and isinstance(node, ast.Call) and node.args:
            literal = self.value(node.args[0]).literal
            return None if literal in (UNKNOWN, TRAINING) else not literal
        return None

    def function_of(self, node: ast.expr) -> tuple[Function, ast.ClassDef | None] | None:
        if isinstance(node, ast.Name):
            held = self.lookup(node.id)
            return (held.function, None) if held is not None and held.function is not None else None
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and self.owner is not None):
            return None
        if node.value.id not in ("self", "cls", self.owner.name):
            return None
        methods = (m for m in self.owner.body if isinstance(m, ast.FunctionDef | ast.AsyncFunctionDef))
        return next(((m, self.owner) for m in methods if m.name == node.attr), None)

    def inline(self, function: Function, node: ast.Call, owner: ast.ClassDef | None) -> Value | None:
        if function in self.running or len(self.running) > DEEPEST or self.file.inlined > MOST:
            return None
        if any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords):
            return None
        self.file.inlined += 1
        called = Flow(self.file, self.top() if owner else self, owner, (*self.running, function))
        called.kept, called.backward, called.constant = self.kept, self.backward, self.constant
        found = called.run(function, self.handed(function, node, owner))
        self.backward = called.backward
        return replace(found, names=found.names - called.arguments)

    def top(self) -> Expressions:
        here: Expressions = self
        while here.outer is not None:
            here = here.outer
        return here

    def handed(self, function: Function, node: ast.Call, owner: ast.ClassDef | None) -> dict[str, Value]:
        """The arguments of a call by the names that they have inside."""
        wanted = [a.arg for a in [*function.args.posonlyargs, *function.args.args]]
        static = isinstance(function, ast.FunctionDef) and any(
            isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list
        )
        if owner is not None and not static:
            wanted = wanted[1:]
        given = {name: self.value(a) for name, a in zip(wanted, node.args, strict=False)}
        return given | {k.arg: self.value(k.value) for k in node.keywords if k.arg is not None}


def first_of(value: Value) -> Value:
    """The loss in what is returned: the first of several, or what is called so."""
    if value.items:
        return value.items[0]
    if value.entries is not None:
        named = dict(value.entries)
        return next((named[key] for key in ("loss", "total", "total_loss") if key in named), DEAD)
    return value


def both(a: dict[str, Value], b: dict[str, Value]) -> dict[str, Value]:
    return {k: joined(a[k], b[k]) if k in a and k in b else a.get(k) or b[k] for k in {**a, **b}}


def follow(file: File) -> None:
    """Run the file from top to bottom, and each of its functions alone, where an input gradient is taken in it."""
    wanted = interest.interesting(file.tree, file.imports)
    if not wanted:
        return
    module = Flow(file)
    every = list(functions(file.tree))
    module.env = {f.name: Value(function=f) for f, _, _ in every if f in file.tree.body}
    module.block(file.tree.body)
    for function, owner, outer in every:
        if function in wanted:
            start: Expressions = module
            if outer is not None:  # the functions beside it, whatever the other names around it hold
                start = Flow(file, module)
                start.env = {n.name: Value(function=n) for n in ast.walk(outer) if isinstance(n, ast.FunctionDef)}
            Flow(file, start, owner, (function,)).run(function)


def functions(
    tree: ast.AST, owner: ast.ClassDef | None = None, outer: ast.AST | None = None
) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, ast.ClassDef | None, ast.AST | None]]:
    """Every function of a file, the class whose method it is, and the function around it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from functions(node, node, outer)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, owner if isinstance(tree, ast.ClassDef) else None, outer
            yield from functions(node, owner, outer or node)
        else:
            yield from functions(node, owner, outer)
