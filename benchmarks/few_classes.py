"""Two and three classes: our ensemble against the authors' own: python -m benchmarks.few_classes [l2].

Small nets tell two or three of the digits apart, and are attacked on up to 200 examples in linf (or l2) by our four
members of the standard ensemble. The authors' targeted APGD needs four classes: their ensemble gets the same net with
logits of classes that can never win beside its own, 10 and more below the smallest. A line for each net: how many
examples stand under ours, under theirs, and under targeted APGD alone. Bound: worst cases at most one example apart.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from pyautoattack import AutoAttack
from sklearn.datasets import load_digits
from torch import Tensor, nn

from inputgrad.attacks import Threat, apgd_ce, apgd_t, fab_t, square
from inputgrad.gradients.forward import Draws

GROUPS = ((3, 8), (1, 7), (4, 9), (5, 6), (0, 2), (3, 5, 8), (1, 4, 7), (0, 6, 9), (2, 3, 7), (4, 5, 9))
EXAMPLES, APART = 200, 1
THREATS = {
    "linf": Threat(norm="linf", epsilon=0.15, bounds=(0.0, 1.0)),
    "l2": Threat(norm="l2", epsilon=0.8, bounds=(0.0, 1.0)),
}
MEMBERS = (apgd_ce, apgd_t, fab_t, square)


class Padded(nn.Module):
    """A net with classes that never win, so that there are four: their logits follow the smallest one."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logits = self.net(x)
        least = logits.amin(1, keepdim=True)
        return torch.cat([logits, *(least - 10 * n for n in range(1, 5 - logits.shape[1]))], 1)


def trained(x: Tensor, y: Tensor, classes: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = (nn.Conv2d(1, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 16, 3, stride=2), nn.SiLU(), nn.Flatten())
    net = nn.Sequential(*layers, nn.Linear(144, classes))
    optimizer = torch.optim.Adam(net.parameters(), 0.005)
    for _ in range(60):
        optimizer.zero_grad()
        noisy = (x + 0.2 * torch.randn_like(x)).clamp(0, 1)
        nn.functional.cross_entropy(net(noisy), y).backward()
        optimizer.step()
    return net.eval().requires_grad_(False)


def ours(net: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, members: tuple = MEMBERS) -> Tensor:
    """Which examples stand after all members, each on what the ones before have left."""
    stands = net(x).argmax(1) == y
    for attack in members:
        left = stands.nonzero()[:, 0]
        if len(left):
            moved = attack.perturb(net, x[left], y[left], threat, Draws(torch.Generator().manual_seed(0)))
            stands[left] = net(moved).argmax(1) == y[left]
    return stands


def theirs(net: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, members: tuple = ()) -> Tensor:
    """The same under the authors' code, of all four attacks or of those named, on the padded net."""
    padded, classes = Padded(net).eval(), net(x[:1]).shape[1]
    options = {"norm": threat.norm.capitalize(), "eps": threat.epsilon, "seed": 0, "device": "cpu"}
    attack = AutoAttack(padded, version="standard", **options)
    attack.attacks_to_run = list(members) or attack.attacks_to_run
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = classes - 1  # never those that cannot win
    moved, _ = attack.run_standard_evaluation(x, y, batch_size=len(x))
    return net(moved).argmax(1) == y


def timed(call: Callable[..., Tensor], *given: object, **options: object) -> tuple[Tensor, float]:
    start = time.process_time()
    return call(*given, **options), time.process_time() - start


def main() -> None:
    digits = load_digits()
    images, labels = torch.tensor(digits.images[:, None] / 16).float(), torch.tensor(digits.target)
    print("digits        norm      n clean   ours theirs   APGD-T alone: ours theirs   CPU s: ours theirs", flush=True)
    apart, threat = [], THREATS[sys.argv[1] if len(sys.argv) > 1 else "linf"]
    for number, group in enumerate(GROUPS):
        chosen = torch.isin(labels, torch.tensor(group))
        x, y = images[chosen], torch.searchsorted(torch.tensor(group), labels[chosen])
        half = len(x) // 2
        net = trained(x[:half], y[:half], len(group), number)
        x, y = x[half:][:EXAMPLES], y[half:][:EXAMPLES]
        clean = int((net(x).argmax(1) == y).sum())
        (a, mine), (b, other) = timed(ours, net, x, y, threat), timed(theirs, net, x, y, threat)
        alone = ours(net, x, y, threat, members=(apgd_t,)), theirs(net, x, y, threat, members=("apgd-t",))
        counts = [int(t.sum()) for t in (a, b, *alone)]
        apart.append(counts[0] - counts[1])
        print(
            f"{' '.join(map(str, group)):12}  {threat.norm:4}  {len(x):5} {clean:5}  {counts[0]:5} {counts[1]:6}"
            f"   {counts[2]:18} {counts[3]:6}   {mine:11.1f} {other:6.1f}",
            flush=True,
        )
    print(f"\n{len(apart)} comparisons: ours - theirs from {min(apart):+d} to {max(apart):+d} examples")
    sys.exit(max(apart) > APART)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
