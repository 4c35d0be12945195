"""442 patients, 10 measurements, disease progression after a year (Efron et al. 2004, shipped with scikit-learn)."""

import numpy as np

from pipeline.data import Arrays
from pipeline.data._split import split

TASK = "regression"
BOUNDS = None
GIVES = ("direction", "mask")
RAISE_THE_RISK = ("bmi", "bp", "s5")
MUST_NOT_MATTER = ("sex",)


def load(*, split_seed: int = 0, shares: tuple[float, float, float] = (0.6, 0.2, 0.2)) -> Arrays:
    """Inputs (n, 10) and targets (n, 1), both standardised with the mean and deviation of the training split.

    Stratified by quartile of the target. The direction points along body mass index, blood pressure and s5 (log of
    serum triglycerides), which raise the risk; the mask marks sex, which must not matter.
    """
    from sklearn.datasets import load_diabetes  # a second of import that only `prepare` needs

    bunch = load_diabetes(scaled=False)
    x, y = bunch.data.astype(np.float64), bunch.target.astype(np.float64)[:, None]
    quartile = np.searchsorted(np.quantile(y, [0.25, 0.5, 0.75]), y[:, 0])
    part = split(len(y), seed=split_seed, shares=shares, strata=quartile)
    x, y = ((v - v[part["train"]].mean(0)) / v[part["train"]].std(0) for v in (x, y))
    names = list(bunch.feature_names)
    return Arrays(
        x={s: x[i].astype(np.float32) for s, i in part.items()},
        y={s: y[i].astype(np.float32) for s, i in part.items()},
        direction=np.array([name in RAISE_THE_RISK for name in names], dtype=np.float32),
        mask=np.array([name in MUST_NOT_MATTER for name in names], dtype=np.float32),
        features=names,
    )
