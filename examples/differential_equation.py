"""A physics-informed net: u'' = -u with u(0) = 0 and u'(0) = 1, of which the solution is sin.

The residual holds input gradients of the output, first and second. `Forward.gradient_of` gives both with graph: what
`torch.autograd.grad(..., create_graph=True)` does, for every example at once.
"""

import torch
from torch import Tensor, nn

from inputgrad.gradients.forward import Forward


class Solution(nn.Module):
    """u(x) = x + x²·net(x): the conditions at 0 hold whatever the net says."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The value of u at every point, (N, 1)."""
        return x + x.square() * self.net(x)


def residual(model: nn.Module, x: Tensor) -> Tensor:
    """mean((u'' + u)²) over the points."""
    at = Forward(model, x, torch.zeros(len(x), 1))  # no targets: only the outputs' gradients are asked
    slope = at.gradient_of(at.outputs[:, 0])
    curvature = at.gradient_of(slope[:, 0])
    return (curvature + at.outputs).square().mean()


torch.manual_seed(0)
model, x = Solution(), torch.linspace(0, torch.pi, 32)[:, None]
optimizer = torch.optim.LBFGS(model.parameters(), max_iter=100, line_search_fn="strong_wolfe")


def closure() -> Tensor:
    """One evaluation, as LBFGS asks for it."""
    optimizer.zero_grad()
    loss = residual(model, x)
    loss.backward()
    return loss


before = residual(model, x)
optimizer.step(closure)
error = (model(x) - x.sin()).abs().max()
print(f"residual {before:.3f} -> {residual(model, x):.2e}; largest distance from sin: {error:.4f}")
