"""99,289 house numbers, 32×32 in colour, ten classes (Netzer et al. 2011; not for commercial use)."""

from pipeline.data._images import published

TASK = "classification"
BOUNDS = (0.0, 1.0)
GIVES = ("direction",)

load = published("SVHN", held_back=6000)
