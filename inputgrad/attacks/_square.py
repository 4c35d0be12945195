"""The walk of Square: many tries looked at together, and none twice (Andriushchenko et al. 2020).

The authors try one change after the other, in batches of what still stands. A model that is frozen gives the same
answer twice, and in linf an image has few windows: a change that was refused at a point is not tried again there. Where
few images are left, their next tries are looked at in one batch, of which the first that is taken counts. Neither
changes the walk: the tests hold its points against the authors'.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inputgrad.attacks._classes import first_of_each
from inputgrad.attacks._tries import Tries

SEEN = 256
"""Next tries of an image among which those that are new at its point are looked for."""
FEW = 512
"""Below so many rows in a batch, several tries of an image are looked at in the same batch."""


class Walk:
    """Where every image stands, (N, C, H, W), and its margin (N,): it is broken where that is not above 0."""

    def __init__(self, model: nn.Module, y: Tensor, tries: Tries) -> None:
        self.model, self.y, self.tries = model, y, tries
        self.at = tries.start.clone()
        self.margin = self.margins(self.at, y)

    def margins(self, points: Tensor, y: Tensor) -> Tensor:
        """The true class's output less the largest other."""
        outputs: Tensor = self.model(points)
        others = outputs.scatter(1, y[:, None], -torch.inf)
        return outputs.gather(1, y[:, None])[:, 0] - others.max(1).values

    def looked(self, row: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        """The points after the tries `number`, (M,), of the images `row`, and the margins there."""
        points = self.tries.points(self.at[row], row, number)
        return points, self.margins(points, self.y[row])

    def run(self) -> None:
        for first, last in self.tries.stages():
            self.stage(first, last)

    def stage(self, first: int, last: int) -> None:
        """The tries from `first` to before `last`. `begin`: the next try of every image that stands."""
        kinds, ahead = self.tries.kinds(first, last), 1
        repeated = int(kinds.max()) + 1 < last - first
        rows = (self.margin > 0).nonzero()[:, 0]
        begin = torch.full((len(rows),), first, device=rows.device)
        refused = torch.zeros(len(rows), int(kinds.max()) + 1, dtype=torch.bool, device=rows.device)
        while len(rows):
            seen = SEEN if repeated else ahead
            numbers = begin[:, None] + torch.arange(seen, device=rows.device)
            new = (numbers < last) & ~refused.gather(1, kinds[(numbers - first).clamp_max(last - first - 1)])
            row, place = (new & (new.cumsum(1) <= ahead)).nonzero().T
            begin = torch.where(new.sum(1) > ahead, begin, begin + seen)
            if len(row):
                number = numbers[row, place]
                points, margin = self.looked(rows[row], number)
                refused[row, kinds[number - first]] = True
                taken = ((margin < self.margin[rows[row]]) | (margin <= 0)).nonzero()[:, 0]
                taken = taken[first_of_each(row[taken])]
                moving = row[taken]
                refused[moving] = False  # at another point every change is new
                begin[moving] = number[taken] + 1
                self.at[rows[moving]], self.margin[rows[moving]] = points[taken], margin[taken]
                ahead = max(1, min(len(row) // (2 * len(taken) + 1), FEW // len(rows)))
            left = (self.margin[rows] > 0) & (begin < last)
            rows, refused, begin = rows[left], refused[left], begin[left]
