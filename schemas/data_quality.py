"""One check of a data set."""

from typing import Annotated

from pydantic import Field, with_config

from schemas.event import KEEP_EXTRAS, Event
from schemas.types import Flag, Fraction, Integer, Number, Text


@with_config(KEEP_EXTRAS)
class DataQuality(Event, total=False):
    """What a check found in a data set or one of its columns."""

    dataset_name: Annotated[Text | None, Field(description="The data set checked.")]
    check_name: Annotated[Text | None, Field(description="The check.")]
    column: Annotated[Text | None, Field(description="The column checked, if it is about one.")]
    score: Annotated[Fraction | None, Field(description="The result, 0 to 1.")]
    passed: Annotated[Flag | None, Field(description="Whether the check passed.")]
    row_count: Annotated[Integer | None, Field(description="Rows checked.")]
    missing_count: Annotated[Integer | None, Field(description="Values missing.")]
    drift_score: Annotated[Number | None, Field(description="Distance from the reference data.")]
