"""70,000 handwritten digits, 28×28 grey values, ten classes (LeCun, Cortes & Burges; CC BY-SA 3.0)."""

from pipeline.data._images import published

TASK = "classification"
BOUNDS = (0.0, 1.0)
GIVES = ("direction",)

load = published("MNIST", held_back=6000)
