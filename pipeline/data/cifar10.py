"""60,000 photographs, 32×32 in colour, ten classes (Krizhevsky 2009)."""

from pipeline.data._images import published

TASK = "classification"
BOUNDS = (0.0, 1.0)
GIVES = ("direction",)

load = published("CIFAR10", held_back=5000)
