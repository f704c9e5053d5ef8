"""What every model of a document shares: it is a frozen value, and a key nobody knows is an error."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value. In YAML its fields go by their aliases (no unit in the key, the unit in the value)."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True, allow_inf_nan=True)
