"""Square (Andriushchenko et al. 2020): windows of an image move to corners of the ball, or swap; none is tried twice.

The authors try one change after the other, in batches of what still stands. A model that is frozen gives the same
answer twice, and in linf an image has few windows: a change that was refused at a point is not tried again there. Where
few images are left, their next tries are looked at in one batch, of which the first that is taken counts. Neither
changes the walk: the tests hold its points against the authors'.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor, nn

from inputgrad.attacks import Threat
from inputgrad.attacks._classes import first_of_each
from inputgrad.gradients.forward import Draws, expand

SHARE = 0.8
"""Of the pixels, in the first windows."""
HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After how many tries the share is halved."""
TILES = 5
"""The first pattern in l2 has so many tiles a side."""


class Tries(ABC):
    """All tries of a walk, drawn before it, the same for every image, in the order in which the authors draw.

    start: where the walk begins, shaped as x, (N, C, H, W). side: of the window of every try, (T,).
    """

    smallest = 1

    def __init__(self, x: Tensor, threat: Threat, draws: Draws, tries: int) -> None:
        self.x, self.threat, self.draws = x, threat, draws
        self.start = self.first()
        self.sides = [self.size(number) for number in range(tries)]
        self.side = torch.tensor(self.sides, device=x.device)
        self.draw()

    def size(self, number: int) -> int:
        height, width = self.x.shape[2:]
        share = SHARE / 2 ** sum(number > after for after in HALVED)
        return min(self.rounded(math.sqrt(share * height * width)), height, width)

    def rounded(self, side: float) -> int:
        return max(round(side), self.smallest)

    def stages(self) -> Iterator[tuple[int, int]]:
        """(first try, last try + 1) of every run of windows of one size."""
        first = 0
        for length in torch.unique_consecutive(self.side, return_counts=True)[1].tolist():
            yield first, (first := first + length)

    def sign(self, *shape: int) -> Tensor:
        return torch.sign(2 * self.draws.uniform(self.x.new_empty(shape)) - 1)

    def corner(self, side: int, length: int) -> int:
        """Where a window begins; as the authors draw it, never at the last place."""
        return int((length - side) * self.draws.uniform(self.x.new_empty(1)))

    @abstractmethod
    def first(self) -> Tensor:
        """Draw where the walk begins."""

    @abstractmethod
    def draw(self) -> None:
        """Draw all tries."""

    @abstractmethod
    def kinds(self, first: int, last: int) -> Tensor:
        """A number for every try of a stage, (last - first,): the same number, the same change."""

    @abstractmethod
    def points(self, at: Tensor, row: Tensor, number: Tensor) -> Tensor:
        """After the tries `number` of one stage, (M,), of the images `row`, (M,), that stand at `at`, (M, C, H, W)."""


class LinfTries(Tries):
    """A window of every channel moves to a corner of the ball."""

    def first(self) -> Tensor:
        n, channels, _, width = self.x.shape
        return self.threat.project(self.x + self.threat.epsilon * self.sign(n, channels, 1, width), self.x)

    def draw(self) -> None:
        channels, height, width = self.x.shape[1:]
        drawn = [(self.corner(s, height), self.corner(s, width), self.sign(channels, 1, 1)) for s in self.sides]
        self.top, self.left = (torch.tensor([d[i] for d in drawn], device=self.x.device) for i in (0, 1))
        self.signs = torch.stack([s for _, _, s in drawn])

    def kinds(self, first: int, last: int) -> Tensor:
        place = torch.stack([self.top[first:last], self.left[first:last]], 1)
        changes = torch.cat([place, self.signs[first:last].flatten(1).long()], 1)
        numbers: Tensor = torch.unique(changes, dim=0, return_inverse=True)[1]
        return numbers

    def points(self, at: Tensor, row: Tensor, number: Tensor) -> Tensor:
        inside = window(at, self.top[number], self.left[number], self.side[number])
        return self.threat.project(at + 2 * self.threat.epsilon * self.signs[number] * inside, self.x[row])


class L2Tries(Tries):
    """What one window holds moves into another, in the authors' pattern of nested rectangles."""

    smallest = 3

    def rounded(self, side: float) -> int:
        return super().rounded(side) // 2 * 2 + 1

    def first(self) -> Tensor:
        n, channels, height, width = self.x.shape
        tile = height // TILES
        margin = (height - tile * TILES) // 2
        delta = torch.zeros_like(self.x)
        for top in range(margin, margin + height // tile * tile, tile):
            for left in range(margin, margin + width // tile * tile, tile):
                upright = pattern(tile).to(self.x)
                drawn = (upright.T if self.turned() else upright) * self.sign(n, channels, 1, 1)
                place = delta[:, :, top : top + tile, left : left + tile]
                place += drawn[:, :, : place.shape[2], : place.shape[3]]
        return self.whole(self.x, delta)

    def turned(self) -> bool:
        return float(self.draws.uniform(self.x.new_empty(1))) > 0.5

    def draw(self) -> None:
        n, channels, height, width = self.x.shape
        places, turned, signs = [], [], []
        for side in self.sides:
            places.append([self.corner(side, length) for length in (height, width, height, width)])
            turned.append(self.turned())
            signs.append(self.sign(n, channels, 1, 1).to(torch.int8))
        self.places = torch.tensor(places, device=self.x.device)
        self.turns = torch.tensor(turned, device=self.x.device).long()
        self.signs = torch.stack(signs)

    def kinds(self, first: int, last: int) -> Tensor:
        return torch.arange(last - first, device=self.x.device)  # few are alike

    def points(self, at: Tensor, row: Tensor, number: Tensor) -> Tensor:
        x, ball, channels, side = self.x[row], self.threat.ball, at.shape[1], int(self.side[number[0]])
        delta, places = at - x, self.places[number]
        target, source = (window(x, place[:, 0], place[:, 1], self.side[number]) for place in places.split(2, 1))
        free = (self.threat.epsilon**2 - ball.size(delta) ** 2).clamp_min(0)
        mass = (delta * torch.maximum(target, source)).square().sum((2, 3), keepdim=True)
        mass = (expand(free, x) / channels + mass).sqrt()
        cells = flat(places[:, 0], places[:, 1], side, x.shape[3]).expand(-1, channels, -1)
        old = delta.flatten(2).gather(2, cells)
        upright = pattern(side).to(x)
        shapes = torch.stack([upright, upright.T]).flatten(1)[self.turns[number], None]
        new = shapes * self.signs[number, row].to(x)[..., 0] + old / (old.norm(dim=2, keepdim=True) + 1e-12)
        new = new / (new.norm(dim=2, keepdim=True) + 1e-12) * mass[..., 0]
        return self.whole(x, (delta * (1 - source)).flatten(2).scatter(2, cells, new).view_as(x))

    def whole(self, x: Tensor, delta: Tensor) -> Tensor:
        """All of ε is used, before the bounds cut something off."""
        moved = x + delta * expand(self.threat.epsilon / (self.threat.ball.size(delta) + 1e-12), x)
        return moved if self.threat.bounds is None else moved.clamp(*self.threat.bounds)


TRIES: dict[str, type[Tries]] = {"linf": LinfTries, "l2": L2Tries}


def window(x: Tensor, top: Tensor, left: Tensor, side: Tensor) -> Tensor:
    """1 inside the squares of that place and side, (M,) each, 0 elsewhere, (M, 1, H, W)."""
    top, left, side = top[:, None], left[:, None], side[:, None]
    rows, columns = (torch.arange(length, device=x.device) for length in x.shape[2:])
    tall, wide = (rows >= top) & (rows < top + side), (columns >= left) & (columns < left + side)
    return (tall[:, None, :, None] & wide[:, None, None, :]).to(x)


def flat(top: Tensor, left: Tensor, side: int, width: int) -> Tensor:
    """Where the squares' numbers are in a flat channel, (M, 1, side²)."""
    steps = torch.arange(side, device=top.device)
    rows, columns = top[:, None, None] + steps[:, None], left[:, None, None] + steps
    return (rows * width + columns).flatten(1)[:, None]


@cache
def pattern(side: int) -> Tensor:
    """Two halves of opposite sign, each the sum of nested rectangles; its length is 1."""
    upper = side // 2
    found = torch.cat([nested(upper, side), -nested(side - upper, side)])
    found /= found.norm()
    return found


def nested(height: int, width: int) -> Tensor:
    found = torch.zeros(height, width)
    for n in range(max(height, width) // 2 + 1):
        rows = slice(max(height // 2 - n, 0), min(height // 2 + n + 1, height))
        columns = slice(max(width // 2 - n, 0), min(width // 2 + n + 1, width))
        found[rows, columns] += 1.0 / (n + 1) ** 2
    return found / found.norm() if height else found


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
