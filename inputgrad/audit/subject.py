"""What is audited: a loss on a model and a batch, evaluated again and again from one state, which is put back."""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from inputgrad.audit.forms import Form, parts_of
from inputgrad.audit.probe import Probe
from inputgrad.audit.tensors import mapped, tensors
from inputgrad.errors import UserError
from inputgrad.gradients.containers import modules_of
from inputgrad.gradients.draws import RowDraws
from inputgrad.gradients.forward import Context
from inputgrad.gradients.looking import random_state
from inputgrad.losses import Loss

AnyLoss = Loss | Callable[..., Any]
LARGEST = 10_000_000
"""Numbers of a tensor that a loss holds: a larger one is data, and no copy of it is made."""


@dataclass(frozen=True)
class Run:
    """One evaluation: the loss, the sum of what it called `.backward()` on itself, the slopes of s and t."""

    value: float
    inner: float
    slopes: tuple[float, float]
    grads: list[Tensor]
    probe: Probe
    drew: bool
    """Whether random numbers were drawn."""
    inside: bool
    """Whether a backward inside the loss, not the last one, trains on the bent derivatives."""
    left: bool
    """Whether a backward inside the loss left something in the weights' `.grad`, which the step will use."""


@dataclass
class Subject:
    """A loss, the models that it is about, and a batch.

    Attributes:
        loss: ours, or a callable.
        form: how it is called.
        model: what it is called with: a module, or several in a tuple or a dict.
        x, y, context: the batch.
        dtype: the precision of the evaluations; None: the model's own.
    """

    loss: AnyLoss
    form: Form
    model: Any
    x: Any
    y: Any
    context: Context
    dtype: torch.dtype | None = None

    kept: list[tuple[Any, ...]] = field(default_factory=list)
    calls: int = 0
    """How many calls lie before the one that is audited."""

    def __post_init__(self) -> None:
        outer = [self.loss] if isinstance(self.loss, nn.Module) else []
        inside = [m for part in parts_of(self.model) for m in modules_of(part)]
        self.models = [*dict.fromkeys([*inside, *(m for loss in outer for m in loss.children())])]
        self.modules = list(dict.fromkeys(m for model in self.models for m in model.modules()))
        self.parameters = list(dict.fromkeys(p for m in self.modules for p in m.parameters(recurse=False)))
        self.learnt = [p for p in self.parameters if p.requires_grad]
        self.generators = generators_of(self.loss)
        self.stateful = [*self.modules, *outer]

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Work on copies of the weights, in place; afterwards everything is what it was, `.grad` and modes included."""
        objects = [*self.stateful, *([] if isinstance(self.loss, Loss) else owner_of(self.loss))]
        inner = [d for m in self.stateful for d in (m._parameters, m._buffers, m._modules) if isinstance(d, dict)]
        self.kept = [(d, dict(d)) for d in [*map(vars, dict.fromkeys(objects)), *inner]]
        self.start = self.kept
        held = [t for m in self.stateful for t in (*m.parameters(recurse=False), *m.buffers(recurse=False))]
        self.tensors = [(t, t.data, t.grad, t.requires_grad) for t in dict.fromkeys(held)]
        self.memory = [(t, t.detach().clone(), t._version) for t in tensors_kept_by(self.loss) if t not in set(held)]
        states = [g.get_state() for g in self.generators]
        devices = {t.device for t, *_ in self.tensors}
        with random_state(devices), torch.inference_mode(False), torch.enable_grad():
            try:
                yield
            finally:
                self._refresh(last=True)
                for g, state in zip(self.generators, states, strict=True):
                    g.set_state(state)

    def _refresh(self, last: bool = False) -> None:
        with torch.no_grad():
            for t, before, version in self.memory:
                if t._version != version:
                    t.copy_(before)
        for now, before in self.kept if last else self.start:
            now.clear()
            now.update(before)
        for t, data, grad, flag in self.tensors:
            if not last:
                data = data.to(self.dtype, copy=True) if self.dtype and data.is_floating_point() else data.clone()
            t.grad = None
            t.data = data
            t.requires_grad_(flag)
            t.grad = grad if last else None

    def fresh(self) -> None:
        """Weights, buffers, modes, counters and random numbers as they were given."""
        self._refresh()
        torch.default_generator.manual_seed(3)  # torch.manual_seed asks for a traceback each time: 2 ms
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(3)
        random.seed(3)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed(3)
        for g in self.generators:
            g.manual_seed(3)

    def noise(self) -> list[Tensor]:
        """A random step of all weights, a tenth of their size."""
        generator = torch.Generator().manual_seed(7)
        steps = (torch.randn(p.shape, generator=generator).to(p) for p in self.learnt)
        return [
            0.1 * step * (p.detach().square().mean().sqrt() + 0.1) for step, p in zip(steps, self.learnt, strict=True)
        ]

    def counts(self) -> bool:
        """Whether a call changes a number that the loss or a model keeps, such as the count of its steps."""
        self.again()
        return any(
            now.get(key) != value for now, before in self.kept for key, value in before.items() if is_count(value)
        )

    def wait_for(self, most: int) -> bool:
        """Call the loss until it asks for a derivative, and begin every evaluation there; whether it does.

        Args:
            most: calls after which to give up.
        """
        self.fresh()
        like = self.learnt[0].detach().new_zeros(())
        for call in range(most):
            start, watch = [(now, dict(now)) for now, _ in self.kept], Probe(self.modules, like)
            with watch.watching():
                self.call()
            if watch.asked:
                self.start, self.calls = start, call
                return True
        return False

    def of(self, value: Any, index: Sequence[int] | None = None) -> Any:
        """A copy of a part of the batch, in this precision; `index` chooses examples."""
        n = self.size

        def copied(t: Tensor) -> Tensor:
            own = t.detach().to(self.dtype) if self.dtype and t.is_floating_point() else t.detach()
            rows = index is not None and t.dim() > 0 and len(t) == n
            own = own[torch.tensor(index, device=t.device)] if rows else own.clone()
            return own.requires_grad_(t.requires_grad)

        return mapped(copied, value)

    @property
    def precision(self) -> torch.dtype:
        """Of the weights, in these evaluations."""
        return self.dtype or next(p.dtype for p in self.learnt if p.is_floating_point())

    @property
    def scripted(self) -> bool:
        """Whether a part of the models is TorchScript that asks for a derivative, where Python does not see it."""
        return any("torch.autograd.grad(" in m.code for m in self.modules if isinstance(m, torch.jit.ScriptModule))

    @property
    def size(self) -> int:
        """The number of examples: the length of the first tensor of x that has one."""
        return next((len(t) for t in tensors(self.x) if t.dim()), 0)

    def call(self, index: Sequence[int] | None = None) -> Tensor:
        """The loss of the batch, a scalar."""
        x, y = self.of(self.x, index), self.of(self.y, index)
        if isinstance(self.loss, Loss):
            draws = RowDraws(torch.tensor(index or range(self.size)), self.size)
            context = replace(self.of(self.context), examples=self.of(self.context.examples, index))
            total: object = self.loss(self.model, x, y, context, draws)
        else:
            total = self.form.call(self.loss, self.model, x, y)
        if not isinstance(total, Tensor) or total.numel() != 1 or not total.is_floating_point():
            raise UserError(f"the loss gives {named(total)}; fix: return one number as a tensor, such as the mean")
        return total

    def again(self) -> Tensor:
        """The loss from the given state, as a training loop calls it."""
        self.fresh()
        return self.call()

    def run(
        self,
        backward: bool = False,
        index: Sequence[int] | None = None,
        shift: Iterable[Tensor] = (),
        training: bool = False,
        **probe: Any,
    ) -> Run:
        """Evaluate once from the given state, with a `Probe` of these settings.

        Args:
            backward: whether the last backward is wanted too, for slopes and gradients.
            index: examples, repeated or permuted.
            shift: what to add to the weights.
            training: put all modules into train mode first.
            **probe: of the `Probe`.
        """
        self.fresh()
        for module in self.modules if training else []:
            module.training = True
        with torch.no_grad():
            for p, step in zip(self.learnt, shift, strict=False):
                p.data += step
        like = next(p for p in self.learnt if p.is_floating_point()).detach().new_zeros(())
        watch, random_state = Probe(self.modules, like, **probe), torch.get_rng_state()
        with watch.watching():
            total = self.call(index)
            if self.dtype not in (None, total.dtype):
                raise TypeError(f"a part of the loss is computed in {total.dtype}")
            inside = any(b.grad is not None and bool(b.grad != 0) for b in watch.bends)
            left = any(p.grad is not None and bool(p.grad.any()) for p in self.learnt)
            if backward and total.requires_grad:
                watch.backward(total)
        slopes = tuple(0.0 if b.grad is None else float(b.grad) for b in watch.bends)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad.detach() for p in self.learnt] if backward else []
        drew = not torch.equal(random_state, torch.get_rng_state())
        return Run(float(total.detach()), watch.inner, (slopes[0], slopes[1]), grads, watch, drew, inside, left)


def named(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype} and shape {tuple(value.shape)}"
    inside = f" ({', '.join(type(v).__name__ for v in value)})" if isinstance(value, tuple | list | dict) else ""
    return f"a {type(value).__name__}{inside}"


def owner_of(loss: AnyLoss) -> list[Any]:
    """The object whose attributes a loss may change: itself, or that of a bound method."""
    owner = getattr(loss, "__self__", loss)
    return [owner] if isinstance(getattr(owner, "__dict__", None), dict) and not isinstance(owner, ModuleType) else []


def tensors_kept_by(loss: AnyLoss) -> list[Tensor]:
    """What a loss may write to in place: a running mean, a buffer of examples."""
    found = tensors([*held_by(loss)])
    return [t for t in dict.fromkeys(found) if not t.requires_grad and not t.is_inference() and t.numel() <= LARGEST]


def held_by(loss: AnyLoss) -> list[Any]:
    """The attributes of a loss, what its function closes over, and the global names that it uses."""
    held = [value for owner in owner_of(loss) for value in vars(owner).values()]
    function = inspect.unwrap(loss) if inspect.isfunction(loss) else getattr(loss, "__call__", None)  # noqa: B004
    function = getattr(function, "__func__", function)
    if inspect.isfunction(function):
        found = inspect.getclosurevars(function)
        held += [*found.nonlocals.values(), *found.globals.values()]
    return [value for value in held if not isinstance(value, ModuleType | type | nn.Module)]


def is_count(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def generators_of(loss: AnyLoss) -> list[torch.Generator]:
    """Random generators that a loss holds."""
    return [g for g in dict.fromkeys(h for h in held_by(loss) if isinstance(h, torch.Generator))]
