"""Gradient pictures: bytes of a sensible size, red where the loss rises, blue where it falls."""

import numpy as np
import pytest

from pipeline.tracking.pictures import gradient_picture


@pytest.mark.parametrize("shape", [(8, 1, 8, 8), (8, 3, 32, 32), (8, 10), (8, 4, 5), (1, 1, 8, 8), (2, 1000)])
def test_any_input_becomes_a_picture(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    picture = gradient_picture(x, np.zeros_like(x))
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert 10 < picture.shape[0] < 2000
    assert 70 < picture.shape[1] < 2000


def test_every_example_has_its_own_scale_and_its_sign():
    gradients = np.zeros((2, 1, 8, 8))
    gradients[0], gradients[1] = 1000, -0.001
    below = gradient_picture(np.zeros((2, 1, 8, 8)), gradients)[-1]
    assert tuple(below[0]) == (255, 0, 0)
    assert tuple(below[-1]) == (0, 0, 255)
