"""What every section of the settings is made of."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MIB = 1024 * 1024
GIB = 1024 * MIB

Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[int, Field(ge=1)]
Secs = Annotated[float, Field(gt=0)]


def listed(value: object) -> object:
    """One text where a list is wanted is a list of one, or of several by comma."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def spelled(pattern: str, how: str) -> AfterValidator:
    """Make the check of a text; ``how`` says what to write, as the pattern itself would not."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(how)
        return value

    return AfterValidator(check)


class Section(BaseModel):
    """A part of the settings: frozen, and unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
