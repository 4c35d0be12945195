"""A critic with WGAN-GP's two-sided penalty: its input gradient is pulled to length 1, not to 0.

With slope 1 the critic measures a distance. The two clouds are the same but for a shift of 3, so the distance between
them is 3, and the difference of the critic's means comes near it (somewhat above: the penalty is no hard limit).
Source: Gulrajani et al. 2017.
"""

import torch
from torch import Tensor, nn

from inputgrad import GradientNorm

penalty = GradientNorm(10, of="outputs", target=1)
slope = GradientNorm(of="outputs", squared=False)


def between(real: Tensor, fake: Tensor) -> Tensor:
    """Random points between pairs of real and fake examples."""
    share = torch.rand(len(real), 1)
    return share * real + (1 - share) * fake


torch.manual_seed(0)
critic = nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(critic.parameters(), 3e-3, betas=(0.0, 0.9))
shift = torch.tensor([3.0, 0.0])
for _ in range(300):
    fake, real = torch.randn(64, 2), torch.randn(64, 2) + shift
    optimizer.zero_grad()
    (critic(fake).mean() - critic(real).mean() + penalty.penalty(critic, between(real, fake))).backward()
    optimizer.step()

fake, real = torch.randn(2000, 2), torch.randn(2000, 2) + shift
distance = (critic(real).mean() - critic(fake).mean()).item()
print(
    f"mean slope {slope.each(critic, between(real, fake)).mean():.2f}, distance {distance:.2f} (the clouds are 3 apart)"
)
