"""How long something takes: every family against scipy, every form of YAML against the numbers in it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from simdeploy.environment.durations import FAMILIES, ZERO, Distribution, Duration, fixed

U = np.concatenate([[1e-9, 1e-4], np.linspace(0.01, 0.99, 99), [1 - 1e-4, 1 - 1e-9]])
Z95 = scipy.stats.norm.ppf(0.95)
IN_A_FILE = {"units_required": True}
READER = TypeAdapter(Duration)

seconds = st.floats(0.1, 1e5)
shapes = st.floats(0.2, 20)
ascending = st.tuples(seconds, st.floats(0, 1), st.floats(0.01, 1e5)).map(lambda t: (t[0], t[0] + t[1] * t[2], t[0] + t[2]))
"""(low, mode, high) with low <= mode <= high and low < high."""


def in_scipy(kind, parameters):
    """The same law as scipy knows it, from the textbook meaning of its parameters."""
    if kind == "uniform":
        low, high = parameters
        return scipy.stats.uniform(low, high - low)
    if kind == "triangular":
        low, mode, high = parameters
        return scipy.stats.triang((mode - low) / (high - low), loc=low, scale=high - low)
    if kind == "pert":
        low, mode, high = parameters
        mean = (low + 4 * mode + high) / 6
        a = 6 * (mean - low) / (high - low)
        b = 6 * (high - mean) / (high - low)
        return scipy.stats.beta(a, b, loc=low, scale=high - low)
    if kind == "lognormal":
        median, p95 = parameters
        return scipy.stats.lognorm(s=np.log(p95 / median) / Z95, scale=median)
    if kind == "gamma":
        mean, sd = parameters
        return scipy.stats.gamma(a=mean**2 / sd**2, scale=sd**2 / mean)
    if kind == "weibull":
        scale, shape = parameters
        return scipy.stats.weibull_min(c=shape, scale=scale)
    (mean,) = parameters
    return scipy.stats.expon(scale=mean)


EXAMPLES = [
    ("uniform", (2, 4)),
    ("triangular", (60, 120, 300)),
    ("triangular", (60, 60, 300)),
    ("triangular", (60, 300, 300)),
    ("pert", (60, 120, 300)),
    ("pert", (0, 0, 10)),
    ("lognormal", (30, 90)),
    ("gamma", (60, 20)),
    ("gamma", (60, 90)),
    ("weibull", (100, 1.5)),
    ("weibull", (100, 0.7)),
    ("exponential", (60,)),
]
EVERY_KIND = [*EXAMPLES, ("fixed", (30,)), ("empirical", (3, 1, 2))]
LAWS = {
    "uniform": st.tuples(seconds, seconds).map(sorted).map(tuple).filter(lambda p: p[0] < p[1]),
    "triangular": ascending,
    "lognormal": st.tuples(seconds, st.floats(1.01, 50)).map(lambda t: (t[0], t[0] * t[1])),
    "gamma": st.tuples(seconds, st.floats(0.1, 3)).map(lambda t: (t[0], t[0] * t[1])),
    "weibull": st.tuples(seconds, shapes),
    "exponential": st.tuples(seconds),
}


@pytest.mark.parametrize(("kind", "parameters"), EXAMPLES)
def test_the_inverse_is_the_percent_point_function_of_scipy(kind, parameters):
    ours = Distribution(kind=kind, parameters=parameters).inverse(U)

    np.testing.assert_allclose(in_scipy(kind, parameters).ppf(U), ours, rtol=1e-9, atol=1e-9 * max(parameters))


@settings(deadline=None)
@given(st.sampled_from(sorted(LAWS)).flatmap(lambda kind: st.tuples(st.just(kind), LAWS[kind])))
def test_the_inverse_is_that_of_scipy_for_any_parameters(law):
    kind, parameters = law
    ours = Distribution(kind=kind, parameters=parameters).inverse(U)

    np.testing.assert_allclose(in_scipy(kind, parameters).ppf(U), ours, rtol=1e-7, atol=1e-7 * max(parameters))


@pytest.mark.parametrize(("kind", "parameters"), EXAMPLES)
def test_the_mean_is_that_of_scipy(kind, parameters):
    assert in_scipy(kind, parameters).mean() == pytest.approx(Distribution(kind=kind, parameters=parameters).mean_s, rel=1e-12)


@pytest.mark.parametrize(("kind", "parameters"), EXAMPLES)
def test_the_mean_is_the_integral_of_the_inverse(kind, parameters):
    law = Distribution(kind=kind, parameters=parameters)
    integral, _ = scipy.integrate.quad(lambda u: float(law.inverse(np.array([u]))[0]), 0, 1, epsrel=1e-8, limit=200)

    assert integral == pytest.approx(law.mean_s, rel=1e-5)


@pytest.mark.parametrize(("kind", "parameters"), EVERY_KIND)
def test_the_mean_of_many_draws_is_the_mean_within_four_standard_errors(kind, parameters):
    law = Distribution(kind=kind, parameters=parameters)
    draws = law.inverse(np.random.default_rng(1).random(20_000))

    assert abs(draws.mean() - law.mean_s) <= 4 * draws.std() / 20_000**0.5 + 1e-9 * law.mean_s


@pytest.mark.parametrize(("kind", "parameters"), EVERY_KIND)
def test_the_inverse_never_falls_and_is_finite_from_zero_up_to_one(kind, parameters):
    quantiles = Distribution(kind=kind, parameters=parameters).inverse(np.concatenate([[0.0], U, [math.nextafter(1, 0)]]))

    assert np.all(np.diff(quantiles) >= 0)
    assert np.all(np.isfinite(quantiles))
    assert quantiles[0] >= 0


def test_a_fixed_duration_is_always_the_same():
    assert [30.0, 30.0] == fixed(30).inverse(np.array([0.0, 0.999])).tolist()
    assert 30.0 == fixed(30).mean_s
    assert 0.0 == ZERO.mean_s


def test_a_sample_of_four_gives_each_of_its_values_a_quarter_of_the_time():
    law = Distribution(kind="empirical", parameters=(40, 10, 30, 20))

    assert [10, 10, 20, 20, 30, 30, 40, 40] == law.inverse(np.array([0, 0.249, 0.25, 0.499, 0.5, 0.749, 0.75, 0.999])).tolist()


@settings(deadline=None)
@given(st.lists(seconds, min_size=1, max_size=20))
def test_the_mean_of_a_sample_is_its_own(values):
    law = Distribution(kind="empirical", parameters=tuple(values))
    n = len(values)

    assert np.mean(values) == pytest.approx(law.mean_s)
    np.testing.assert_allclose(sorted(values), law.inverse((np.arange(n) + 0.5) / n))


@pytest.mark.parametrize(("mean", "p95"), [(60, 61), (60, 120), (60, 200), (60, 230), (0.5, 1.0)])
def test_a_lognormal_by_mean_and_p95_has_both_with_the_smaller_sigma(mean, p95):
    law = READER.validate_python({"lognormal": {"mean": f"{mean} s", "p95": f"{p95} s"}}, context=IN_A_FILE)
    median, own_p95 = law.parameters
    sigma = np.log(own_p95 / median) / Z95
    twin = scipy.stats.lognorm(s=sigma, scale=median)

    assert mean == pytest.approx(twin.mean(), rel=1e-9)
    assert p95 == pytest.approx(twin.ppf(0.95), rel=1e-9)
    assert mean == pytest.approx(law.mean_s, rel=1e-9)
    assert 0 < sigma < Z95  # the two that fit are Z95 -+ sqrt(Z95^2 - 2 ln(p95 / mean))


def test_a_lognormal_reaches_its_largest_p95_at_3_87_times_the_mean():
    limit = math.exp(Z95**2 / 2)

    law = READER.validate_python({"lognormal": {"mean": "100 s", "p95": f"{99.999 * limit} s"}}, context=IN_A_FILE)

    assert 100 == pytest.approx(law.mean_s)
    with pytest.raises(ValidationError, match="no lognormal of use has the mean 100"):
        READER.validate_python({"lognormal": {"mean": "100 s", "p95": f"{100.001 * limit} s"}}, context=IN_A_FILE)


@pytest.mark.parametrize(
    ("form", "kind", "parameters"),
    [
        ("90 s", "fixed", (90,)),
        ("1.5 min", "fixed", (90,)),
        ({"fixed": "90 s"}, "fixed", (90,)),
        ({"uniform": ["2 s", "1 min"]}, "uniform", (2, 60)),
        ({"uniform": {"low": "2 s", "high": "1 min"}}, "uniform", (2, 60)),
        ({"uniform": {"high": "1 min", "low": "2 s"}}, "uniform", (2, 60)),
        ({"triangular": ["1 min", "2 min", "5 min"]}, "triangular", (60, 120, 300)),
        ({"pert": {"low": "1 min", "mode": "2 min", "high": "5 min"}}, "pert", (60, 120, 300)),
        ({"lognormal": {"median": "30 s", "p95": "90 s"}}, "lognormal", (30, 90)),
        ({"gamma": {"mean": "1 min", "sd": "20 s"}}, "gamma", (60, 20)),
        ({"weibull": {"scale": "1 min", "shape": 1.5}}, "weibull", (60, 1.5)),
        ({"weibull": ["1 min", 2]}, "weibull", (60, 2)),
        ({"exponential": "1 min"}, "exponential", (60,)),
        ({"exponential": {"mean": "1 min"}}, "exponential", (60,)),
        ({"empirical": ["3 s", "1 s", "1 min"]}, "empirical", (3, 1, 60)),
    ],
)
def test_every_form_of_a_file_is_read_in_seconds(form, kind, parameters):
    assert Distribution(kind=kind, parameters=parameters) == READER.validate_python(form, context=IN_A_FILE)


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (90, "90 has no unit"),
        ("90", "has no unit"),
        ("90 sec", "did you mean '90 s'"),
        ("-90 s", "not negative"),
        ({"uniform": [2, 4]}, "2 has no unit"),
        ({"uniform": ["4 s", "2 s"]}, "must not fall"),
        ({"uniform": ["4 s"]}, "low, high"),
        ({"uniform": {"low": "1 s", "hgh": "2 s"}}, "low, high"),
        ({"triangular": ["1 s", "3 s", "2 s"]}, "must not fall"),
        ({"triangular": ["1 s", "1 s", "1 s"]}, "fixed"),
        ({"pert": ["1 s", "1 s", "1 s"]}, "fixed"),
        ({"lognormal": ["90 s", "30 s"]}, "below the median"),
        ({"lognormal": ["0 s", "30 s"]}, "greater than zero"),
        ({"gamma": ["60 s", "0 s"]}, "greater than zero"),
        ({"weibull": ["60 s", 0]}, "greater than zero"),
        ({"weibull": {"scale": 60, "shape": 1}}, "60 has no unit"),
        ({"exponential": "0 s"}, "greater than zero"),
        ({"empirical": []}, "at least one value"),
        ({"normal": ["60 s", "10 s"]}, "no duration"),
        (True, "no duration"),
        (None, "no duration"),
        ([], "no duration"),
        ({}, "no duration"),
    ],
)
def test_what_is_no_duration_is_refused_with_the_reason(form, says):
    with pytest.raises(ValidationError) as caught:
        READER.validate_python(form, context=IN_A_FILE)

    assert says in str(caught.value)


def test_the_form_of_json_has_no_units_and_is_none_of_a_file():
    assert Distribution(kind="uniform", parameters=(2, 4)) == READER.validate_python(["uniform", 2, 4])
    with pytest.raises(ValidationError, match="no duration"):
        READER.validate_python(["uniform", 2, 4], context=IN_A_FILE)


def test_a_file_needs_units_in_the_form_of_the_model_too():
    with pytest.raises(ValidationError):
        READER.validate_python({"kind": "uniform", "parameters": [2, 4]}, context=IN_A_FILE)


def test_the_advice_shows_the_form_as_it_is_to_be_written():
    with pytest.raises(ValidationError) as caught:
        READER.validate_python({"soon": 1})

    assert " {KIND: [...]} " in str(caught.value)


@pytest.mark.parametrize(("kind", "parameters"), EVERY_KIND)
def test_json_gives_back_the_same_distribution(kind, parameters):
    law = Distribution(kind=kind, parameters=parameters)

    assert law == READER.validate_json(READER.dump_json(law))


def test_json_is_a_number_for_a_fixed_duration_and_a_list_for_any_other():
    assert 30.0 == READER.dump_python(fixed(30), mode="json")
    assert ["uniform", 2.0, 4.0] == READER.dump_python(Distribution(kind="uniform", parameters=(2, 4)), mode="json")


@pytest.mark.parametrize(("kind", "parameters"), EVERY_KIND)
def test_three_times_a_duration_has_three_times_every_quantile_and_the_mean(kind, parameters):
    law = Distribution(kind=kind, parameters=parameters)

    np.testing.assert_allclose(3 * law.inverse(U), law.scaled(3).inverse(U), rtol=1e-9)
    assert 3 * law.mean_s == pytest.approx(law.scaled(3).mean_s, rel=1e-12)


ALWAYS_FIVE = [("fixed", (5,)), ("empirical", (5, 5)), ("uniform", (5, 5)), ("lognormal", (5, 5))]


@pytest.mark.parametrize(("kind", "parameters"), [*EVERY_KIND, *ALWAYS_FIVE])
def test_a_distribution_is_called_fixed_exactly_if_all_its_draws_are_equal(kind, parameters):
    law = Distribution(kind=kind, parameters=parameters)

    assert (np.ptp(law.inverse(U)) <= 1e-12 * max(parameters)) == law.is_fixed


def test_every_family_is_met_in_this_file():
    assert {kind for kind, _ in EVERY_KIND} == set(FAMILIES)
