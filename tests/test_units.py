"""Quantities as people write them: a number and a unit, read once at the edge."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from simdeploy.errors import UnitError
from simdeploy.units import FRACTION, RATE, SIZE, SPEED, TIME, Bytes, BytesPerSecond, Fraction, PerSecond, Seconds, format_s, parse

IN_A_FILE = {"units_required": True}
FIELDS = {"90 s": Seconds, "90 req/s": PerSecond, "90 B": Bytes, "90 B/s": BytesPerSecond}


def read(field, value, context=None):
    return TypeAdapter(field).validate_python(value, context=context)


@pytest.mark.parametrize(
    ("text", "units", "base"),
    [
        ("250 ms", TIME, 0.25),
        ("90 s", TIME, 90),
        ("15 min", TIME, 15 * 60),
        ("1.5 h", TIME, 1.5 * 3600),
        ("2 d", TIME, 2 * 24 * 3600),
        ("3 req/s", RATE, 3),
        ("120 req/min", RATE, 2),
        ("7200 req/h", RATE, 2),
        ("1 kB", SIZE, 1000),
        ("1 KiB", SIZE, 1024),
        ("100 GB", SIZE, 100 * 1000**3),
        ("2 TiB", SIZE, 2 * 1024**4),
        ("40 MB/s", SPEED, 40 * 1000**2),
        ("20 %", FRACTION, 0.2),
    ],
)
def test_a_number_and_a_unit_is_read_in_the_base_unit(text, units, base):
    assert base == pytest.approx(parse(text, units), rel=1e-15)


@pytest.mark.parametrize("text", ["90 s", "90s", "  90 s\n", "+90 s", "90.0 s", "9e1 s", "9E+1 s", "90. s", ".09e3 s"])
def test_blanks_signs_and_exponents_change_nothing(text):
    assert 90.0 == parse(text, TIME)


def test_57_percent_is_the_number_nearest_to_it():
    assert 0.57 == parse("57 %", FRACTION)  # 57 x 0.01 is a bit more in floating point


@settings(deadline=None)
@given(st.floats(0, 1e12), st.sampled_from(sorted(TIME)))
def test_what_is_written_with_all_digits_is_read_back(number, unit):
    assert number * TIME[unit] == parse(f"{number!r} {unit}", TIME)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("90 sec", "did you mean '90 s'?"),
        ("90 mins", "did you mean '90 min'?"),
        ("4 fortnights", "units here: ms, s, min, h, d"),
    ],
)
def test_an_unknown_unit_suggests_the_nearest_or_lists_all(text, hint):
    with pytest.raises(UnitError) as caught:
        parse(text, TIME)

    assert repr(text) in str(caught.value)
    assert hint in str(caught.value)


def test_a_unit_of_another_dimension_is_unknown():
    with pytest.raises(UnitError, match="unknown unit 'GB'"):
        parse("90 GB", TIME)


@pytest.mark.parametrize("text", ["90", " 90 ", "1e3"])
def test_a_bare_number_is_no_quantity(text):
    with pytest.raises(UnitError, match="has no unit"):
        parse(text, TIME)


@pytest.mark.parametrize("text", ["", "s", "ninety s", "inf s", "nan s", "1_000 s", "0x10 s", "--3 s", "1,5 h"])
def test_a_text_that_does_not_begin_with_a_decimal_number_is_no_quantity(text):
    with pytest.raises(UnitError):
        parse(text, TIME)


@pytest.mark.parametrize("text", ["-1 s", "-0.001 h", "1e999 s", "1e308 d"])
def test_negative_and_infinite_quantities_are_refused(text):
    with pytest.raises(UnitError, match="must be finite and not negative"):
        parse(text, TIME)


@settings(deadline=None)
@given(st.text(max_size=12))
def test_any_text_is_a_quantity_or_a_unit_error(text):
    try:
        value = parse(text, TIME)
    except UnitError:
        return

    assert value >= 0
    assert math.isfinite(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.25, "0.25 s"),
        (42.5, "42.5 s"),
        (119, "119 s"),
        (120, "2 min"),
        (738, "12.3 min"),
        (9000, "2.5 h"),
        (172800, "2 d"),
        (-300, "-5 min"),
    ],
)
def test_seconds_are_written_in_the_largest_unit_of_which_there_are_two(seconds, text):
    assert text == format_s(seconds)


@settings(deadline=None)
@given(st.floats(0, 1e8))
def test_what_is_written_for_people_is_right_to_three_digits(seconds):
    assert seconds == pytest.approx(parse(format_s(seconds), TIME), rel=5.01e-3)


@pytest.mark.parametrize(("text", "field"), FIELDS.items())
def test_in_a_file_a_bare_number_is_refused_and_the_unit_is_shown(text, field):
    with pytest.raises(ValidationError, match=f"90 has no unit; write for example '{text}'"):
        read(field, 90, IN_A_FILE)

    assert 90.0 == read(field, text, IN_A_FILE)


@pytest.mark.parametrize("field", FIELDS.values())
def test_elsewhere_a_bare_number_is_in_the_base_unit(field):
    assert 90.0 == read(field, 90)


@pytest.mark.parametrize("context", [None, IN_A_FILE])
@pytest.mark.parametrize("field", [*FIELDS.values(), Fraction])
@pytest.mark.parametrize("value", [-1, -0.5, math.inf, -math.inf, math.nan, True, False, None, [], {}, "", "-1 s"])
def test_no_field_takes_what_is_negative_infinite_or_no_number(field, value, context):
    with pytest.raises(ValidationError):
        read(field, value, context)


@pytest.mark.parametrize("context", [None, IN_A_FILE])
def test_a_share_is_a_percentage_or_a_number_up_to_one(context):
    assert 0.2 == read(Fraction, "20 %", context)
    assert 0.2 == read(Fraction, 0.2, context)
    assert 1.0 == read(Fraction, "100 %", context)


@pytest.mark.parametrize("context", [None, IN_A_FILE])
@pytest.mark.parametrize("value", ["101 %", "100.5%", 1.5, 20])
def test_a_share_over_100_percent_is_refused(value, context):
    with pytest.raises(ValidationError):
        read(Fraction, value, context)


def test_a_share_of_20_in_a_file_is_told_to_be_a_percentage():
    with pytest.raises(ValidationError, match="20 has no unit"):
        read(Fraction, 20, IN_A_FILE)


@pytest.mark.parametrize("context", [None, IN_A_FILE])
def test_an_integer_too_large_for_any_float_is_refused_like_infinity(context):
    with pytest.raises(ValidationError):
        read(Seconds, 10**400, context)
