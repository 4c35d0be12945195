"""A physics-informed net: u'' = -u with u(0) = 0 and u'(0) = 1, of which the solution is sin.

The residual holds input gradients of the output, first and second, both with graph: what
`torch.autograd.grad(..., create_graph=True)` does, for every example at once.
"""

import torch
from torch import Tensor, nn

from inputgrad import Residual


class Solution(nn.Module):
    """u(x) = x + x²·net(x): the conditions at 0 hold whatever the net says."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The value of u at every point, (N, 1)."""
        return x + x.square() * self.net(x)


residual = Residual(equation=lambda p: p.d(0, 0) + p.u())

torch.manual_seed(0)
model, x = Solution(), torch.linspace(0, torch.pi, 32)[:, None]
optimizer = torch.optim.LBFGS(model.parameters(), max_iter=100, line_search_fn="strong_wolfe")


def closure() -> Tensor:
    """One evaluation, as LBFGS asks for it."""
    optimizer.zero_grad()
    loss = residual.penalty(model, x)
    loss.backward()
    return loss


before = residual.penalty(model, x).item()
optimizer.step(closure)
error = (model(x) - x.sin()).abs().max()
print(f"residual {before:.3f} -> {residual.penalty(model, x).item():.2e}; largest distance from sin: {error:.4f}")
