"""Demand over time from a CSV file, with the line of each fault."""

from __future__ import annotations

import csv
import io
import math
import pathlib
from collections.abc import Iterator

from simdeploy.errors import Fault, FileError

COLUMNS = ("time_s", "rate_per_s")
MAX_CSV_BYTES = 20_000_000
MOST_FAULTS = 20


def read_curve(file: pathlib.Path, end_s: float = math.inf) -> list[tuple[float, float]]:
    """(moment [s], rate [req/s]) pairs from a file with the columns `time_s,rate_per_s`, the first at 0 s, rising, before *end_s*.

    Raises FileError with the line of each fault, of many the first ones.
    """
    curve: list[tuple[float, float]] = []
    faults: list[Fault] = []
    for line, at_s, rate_per_s in _rows(file):
        wrong = _wrong(at_s, rate_per_s, curve, end_s)
        if wrong:
            faults.append(Fault(str(file), line, 1, wrong))
            if len(faults) == MOST_FAULTS:
                break
        else:
            curve.append((float(at_s), float(rate_per_s)))
    if not curve and not faults:
        faults.append(Fault(str(file), 1, 1, "there is no line below the heading; give one for each change of the rate"))
    if faults:
        raise FileError(faults)
    return curve


def _rows(file: pathlib.Path) -> Iterator[tuple[int, str, str]]:
    """Line, time and rate as written. Raises FileError for what is no such file."""
    line = 1
    try:
        with open(file, "rb") as raw:
            text = raw.read(MAX_CSV_BYTES + 1)
        if len(text) > MAX_CSV_BYTES:
            raise ValueError(f"it has more than {MAX_CSV_BYTES} bytes")
        reader = csv.DictReader(io.StringIO(text.decode("utf-8-sig"), newline=""), restval="", skipinitialspace=True)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"its first line names no column {' and no '.join(missing)}")
        for row in reader:
            line = reader.line_num
            yield line, row["time_s"], row["rate_per_s"]
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        message = f"{reason}; a demand file has the columns {','.join(COLUMNS)} and numbers below them"
        raise FileError([Fault(str(file), line, 1, message)]) from None


def _wrong(at: str, rate: str, before: list[tuple[float, float]], end_s: float) -> str:
    """Why such a row cannot follow those *before*; empty where it can."""
    try:
        at_s, rate_per_s = float(at), float(rate)
    except ValueError:
        return f"{f'{at},{rate}'!r:.60} is no pair of numbers, such as 3600,120"
    if not (math.isfinite(at_s) and math.isfinite(rate_per_s) and rate_per_s >= 0):
        return f"{f'{at},{rate}'!r:.60} is no moment with a rate from 0 on"
    if at_s != 0 if not before else at_s <= before[-1][0]:
        return f"{at_s:g} s does not come after the line before; the first is at 0, times must rise"
    if at_s >= end_s:
        return f"{at_s:g} s is not before {end_s:g} s, by which such a curve has come round"
    return ""
