"""What the input gradients of the clean test examples look like, in a few numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd

LABELS = {
    "gradient_norm_l1": "‖g‖₁",
    "gradient_norm_l2": "‖g‖₂",
    "jacobian_norm": "‖J‖_F",
    "gradient_sparsity": "sparsity of g",
    "gradient_alignment": "cos(x, g)",
    "gradient_stability": "cos(g(x), g(x + noise))",
}
"""The columns that every descriptors.parquet has, and how they are written."""
OTHERS = {"gradient_error": "error of ∇f"}
"""Those that only some have; a further column goes by its own name."""
HEADLINE = "gradient_norm_l2"


def label(name: str) -> str:
    return (LABELS | OTHERS).get(name, name.replace("_", " "))


def key(name: str) -> str:
    """A descriptor in metrics.json, and behind `test_` in MLflow."""
    return "input_gradient_norm" if name == HEADLINE else name


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """Per descriptor the mean over the examples where it is finite: descriptor, value, left_out, examples.

    A cosine is NaN where a vector is zero. Without a finite number the value is NaN.
    """
    numbers = frame.drop(columns=["example", "seed"], errors="ignore").astype(float)
    finite = numbers.where(np.isfinite(numbers))
    return pd.DataFrame(
        {
            "descriptor": [str(name) for name in numbers],
            "value": finite.mean().to_numpy(),
            "left_out": finite.isna().sum().to_numpy(),
            "examples": len(numbers),
        }
    )


def complete(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame`, after a look that every descriptor is there."""
    if not np.isfinite(frame[["example", *LABELS]][HEADLINE].astype(float)).any():
        raise ValueError(f"{HEADLINE} is nowhere finite")
    return frame
