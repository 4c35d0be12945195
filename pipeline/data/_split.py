"""Seeded, stratified train, validation and test splits."""

import numpy as np

from inputgrad.errors import UserError


def split(
    n: int, *, seed: int, shares: tuple[float, float, float], strata: np.ndarray, mixed: bool = False
) -> dict[str, np.ndarray]:
    """Indices of each split, (n_split,) int64, every stratum in the same proportion.

    Args:
        n: number of examples.
        seed: of the shuffle; it belongs to the data, not to the run, so that every run is tested on the same examples.
        shares: of train, validation and test; they sum to 1.
        strata: a class per example, (n,).
        mixed: leave every split in the order of the shuffle. For a source that may be sorted by its target: the first
            examples of a split are attacked, audited and shown, and they would be of one class.
    """
    from sklearn.model_selection import train_test_split

    if abs(sum(shares) - 1) > 1e-9 or min(shares) <= 0:
        raise UserError(f"data.shares: {list(shares)} must be three positive numbers that sum to 1")
    everything = np.arange(n)
    rest, test = train_test_split(everything, test_size=shares[2], random_state=seed, stratify=strata)
    share = shares[1] / (shares[0] + shares[1])
    train, validation = train_test_split(rest, test_size=share, random_state=seed, stratify=strata[rest])
    found = {"train": train, "validation": validation, "test": test}
    return found if mixed else {name: np.sort(index) for name, index in found.items()}


def stratified(labels: np.ndarray, sizes: dict[str, int | None], seed: int) -> dict[str, np.ndarray]:
    """Disjoint indices of parts of the given sizes, every class in its share; None: all that is left, as the last.

    Args:
        labels: class numbers, (n,).
        sizes: name -> how many.
        seed: of the shuffle.
    """
    from sklearn.model_selection import train_test_split

    left, found = np.arange(len(labels)), {}
    for name, size in sizes.items():
        if size is None or size == len(left):
            found[name], left = left, left[:0]
            continue
        classes = len(np.unique(labels[left]))
        if not classes <= size <= len(left) - classes:
            raise UserError(f"data.{name}: {size} of {len(left)} images; fix: {classes} or more, and leave as many")
        left, chosen = train_test_split(left, test_size=size, random_state=seed, stratify=labels[left])
        found[name] = np.sort(chosen)
        left = np.sort(left)
    return found
