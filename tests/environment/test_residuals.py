"""What is held at a random moment is held on by the equilibrium law: closed forms, moments, and counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simdeploy.environment.durations import Distribution, fixed
from simdeploy.environment.residuals import residual

GRID = (np.arange(20_000) + 0.5) / 20_000
HOLDS = [
    Distribution(kind="uniform", parameters=(2.0, 8.0)),
    Distribution(kind="triangular", parameters=(1.0, 2.0, 5.0)),
    Distribution(kind="pert", parameters=(0.0, 2.0, 5.0)),
    Distribution(kind="lognormal", parameters=(30.0, 90.0)),
    Distribution(kind="gamma", parameters=(30.0, 60.0)),
    Distribution(kind="weibull", parameters=(30.0, 0.7)),
    Distribution(kind="exponential", parameters=(30.0,)),
    Distribution(kind="empirical", parameters=(5.0, 1.0, 2.0, 2.0)),
    fixed(10.0),
]


@pytest.mark.parametrize("hold", HOLDS, ids=lambda h: h.kind)
def test_the_mean_residual_is_half_the_second_moment_over_the_mean(hold):
    u = (np.arange(1_000_000) + 0.5) / 1_000_000
    second = float(np.mean(hold.inverse(u) ** 2))

    assert pytest.approx(second / 2 / hold.mean_s, rel=2e-3) == np.mean([residual(hold).longest_s(1.0, v) for v in GRID])


@pytest.mark.parametrize("hold", HOLDS, ids=lambda h: h.kind)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_the_longest_of_one_is_where_as_many_are_over(hold, share):
    """G(G^-1(u)) = u, and G(x) is the mean of min(X, x) over the mean of X."""
    law = residual(hold)
    x = law.longest_s(1.0, share)
    u = (np.arange(1_000_000) + 0.5) / 1_000_000

    assert pytest.approx(1 - share, rel=1e-9) == law.survival(x)
    assert pytest.approx(float(np.mean(np.minimum(hold.inverse(u), x))) / hold.mean_s, abs=3e-4) == share


def test_of_fixed_holds_the_residual_is_uniform_and_of_exponential_ones_exponential():
    assert [2.5, 7.5] == pytest.approx([residual(fixed(10.0)).longest_s(1.0, u) for u in (0.25, 0.75)])
    memoryless = residual(Distribution(kind="exponential", parameters=(10.0,)))
    assert pytest.approx(10 * math.log(4)) == memoryless.longest_s(1.0, 0.75)
    assert pytest.approx(math.exp(-2)) == memoryless.survival(20.0)


def test_of_holds_that_take_two_values_the_law_bends_once():
    """1 s or 3 s, mean 2 s: P(R > x) = (2 - x) / 2 to 1 s, then (3 - x) / 4."""
    law = residual(Distribution(kind="empirical", parameters=(1.0, 3.0)))

    assert [1, 0.75, 0.5, 0.25, 0, 0] == pytest.approx([law.survival(x) for x in (0.0, 0.5, 1.0, 2.0, 3.0, 9.0)])


@pytest.mark.parametrize("n", [0.25, 1.0, 7.0, 1e4])
def test_the_longest_of_n_uniform_residuals_is_a_power(n):
    assert pytest.approx(10 * 0.3 ** (1 / n)) == residual(fixed(10.0)).longest_s(n, 0.3)


@pytest.mark.parametrize("hold", HOLDS, ids=lambda h: h.kind)
def test_the_longest_of_very_many_stays_on_the_law_far_out_in_the_tail(hold):
    """Of a million the median longest is where ln 2 of a million are still held."""
    law = residual(hold)

    assert pytest.approx(math.log(2) / 1e6, rel=2e-3) == law.survival(law.longest_s(1e6, 0.5))


def test_none_holds_nobody_up_and_the_least_luck_neither():
    assert 0 == residual(fixed(10.0)).longest_s(0.0, 0.5) == residual(fixed(10.0)).longest_s(5.0, 0.0)


@pytest.mark.parametrize(("n", "x_s", "cut"), [(4.0, 0.0, 4.0), (4.0, 10.0, 0.0), (0.0, 5.0, 0.0), (1.0, 5.0, 1.0), (2.0, 5.0, 4 / 3)])
def test_what_is_cut_is_what_is_still_held_given_that_anything_is(n, x_s, cut):
    """Two holds of 10 s at 5 s: of the cases none, one, one, both three hold any, four requests in all."""
    assert pytest.approx(cut) == residual(fixed(10.0)).cut(n, x_s)
