"""The residual of a differential equation as a term: any combination of u and its derivatives, of any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from inputgrad.errors import UserError
from inputgrad.gradients.forward import Forward, rows
from inputgrad.gradients.taylor import is_chain, laplacian
from inputgrad.losses import Loss


class Derivatives:
    """u and its derivatives at some points; each is computed once, however often an equation names it.

    x: the points, (N, d), so that `p.x[:, 0]` is the first coordinate.
    """

    def __init__(self, at: Forward) -> None:
        self._at, self.x = at, at.x
        self._first: dict[tuple[int, ...], Tensor] = {}
        self._outputs: Tensor | None = None
        self._laplacians: Tensor | None = None

    def u(self, of: int = 0) -> Tensor:
        """An output of the model, (N,)."""
        outputs = rows(self._at.outputs) if self._outputs is None else self._outputs
        if not 0 <= of < outputs.shape[1]:
            raise UserError(f"of={of}: the model has the outputs 0 to {outputs.shape[1] - 1}; fix: name one of them")
        return outputs[:, of]

    def d(self, *by: int, of: int = 0) -> Tensor:
        """∂u/∂x_i for `d(i)`, ∂²u/∂x_i∂x_j for `d(i, j)`, and so on, (N,).

        Args:
            by: coordinates, by number; of several tensors (`Context(wrt=...)`) those of the first one come first.
            of: the output, by number.
        """
        coordinates = rows(self.x).shape[1]
        if not by or any(not isinstance(i, int) or not 0 <= i < coordinates for i in by):
            named = ", ".join(map(repr, by))
            raise UserError(f"d({named}): x has the coordinates 0 to {coordinates - 1}; fix: name them by number")
        return rows(self._gradient(by[:-1], of))[:, by[-1]]

    def _gradient(self, by: tuple[int, ...], of: int) -> Tensor:
        """All derivatives of u, or of the derivative that `by` names, shaped as x."""
        key = (of, *by)
        if key not in self._first:
            self._first[key] = self._at.gradient_of(self.d(*by, of=of) if by else self.u(of))
        return self._first[key]

    def gradient(self, values: Tensor) -> Tensor:
        """The derivatives of any number per point, (N,), by all coordinates, (N, d): of a residual, for instance."""
        return rows(self._at.gradient_of(values))

    def laplacian(self, of: int = 0) -> Tensor:
        """Σ_i ∂²u/∂x_i² over all coordinates, (N,).

        In one forward pass where the model is an nn.Sequential of nn.Linear, tanh, sigmoid and SiLU, which then gives
        u and its first derivatives too; else by a double backward for each coordinate.
        """
        at = self._at
        if self._laplacians is None and at.takes_any_batch and at.context.output is None and is_chain(at.model, self.x):
            self._outputs, first, self._laplacians = laplacian(at.model, self.x)  # type: ignore[arg-type]
            self._first |= {(k,): first[..., k] for k in range(first.shape[2])}
        if self._laplacians is not None:
            self.u(of)  # refuses an output that is not there
            return self._laplacians[:, of]
        total = self.d(0, 0, of=of)
        for i in range(1, rows(self.x).shape[1]):
            total = total + self.d(i, i, of=of)
        return total


class Residual(Loss):
    """mean(l_i) + strength * mean(r_i²), r_i = equation(u and its derivatives at x_i).

    `Residual(equation=lambda p: p.d(1) - 0.1 * p.d(0, 0))` is the heat equation for u(x, t), ∂u/∂t = 0.1 ∂²u/∂x².
    Several equations: stack their residuals, (N, k); their squares are added. At points inside the domain, without
    targets: `residual.penalty(model, inside)`, or in a sum by `points`; conditions on a boundary are a task loss there.
    p.x is (N, coordinates), p.u() and p.d(…) are (N,); `of=1` is the second output.

    Regression: u is the prediction. A net of piecewise linear activations (ReLU) has the second derivative 0; take tanh
    or SiLU.
    Cost: one double backward for every derivative that is named, none twice; p.laplacian() of a plain chain of layers
    takes one forward pass. p.gradient(r) differentiates a residual (gPINN). Helps where an equation is known.

    Source: Raissi, Perdikaris & Karniadakis 2019 (physics-informed nets).
    """

    example: ClassVar[str] = "Residual(lambda p: p.d(1) - 0.1 * p.d(0, 0))"
    equation: Callable[[Derivatives], Tensor] = Field(exclude=True)

    tasks: ClassVar[tuple[str, ...]] = ("regression",)

    def term(self, at: Forward) -> Tensor:
        found, n = self.equation(Derivatives(at)), len(at.x)
        if not isinstance(found, Tensor) or found.dim() == 0 or len(found) != n:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UserError(f"the equation gives {shape} for {n} points; fix: a residual for each, (N,) or (N, k)")
        if found.shape == (n, n) and n > 1:  # (N,) less (N, 1): every point against every other one
            raise UserError("the equation gives (N, N); fix: p.u() and p.d() are (N,): take p.x[:, 0], not p.x[:, :1]")
        return rows(found).square().sum(1)
