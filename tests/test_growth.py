import numpy as np
import pytest
from softmax_bench.verification.growth import growth


def test_a_power_law_is_found_in_the_largest_sizes() -> None:
    sizes = [4, 16, 64, 256, 1024]
    fit = growth(sizes, [1e-7 + 3e-9 * size**2 for size in sizes])
    assert fit is not None
    assert fit.exponent == pytest.approx(2, abs=0.01)
    assert fit.error < 0.01
    assert fit.points == 3


def test_two_points_have_no_error_and_one_has_no_growth() -> None:
    fit = growth([10, 100], [1.0, 10.0])
    assert fit is not None
    assert fit.exponent == pytest.approx(1)
    assert np.isnan(fit.error)
    assert growth([10], [1.0]) is None
    assert growth([10, 10], [1.0, 2.0]) is None
    assert growth([10, 100], [0.0, 2.0]) is None
