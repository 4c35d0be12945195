"""70,000 pictures of clothes, 28×28 grey values, ten classes (Xiao, Rasul & Vollgraf 2017; MIT licence)."""

from pipeline.data._images import published

TASK = "classification"
BOUNDS = (0.0, 1.0)
GIVES = ("direction",)

load = published("FashionMNIST", held_back=6000, packaged="fashion-mnist")
"""Without `folder`, Debian's package dataset-fashion-mnist is used where it is there (`make data-fashion` gets it)."""
