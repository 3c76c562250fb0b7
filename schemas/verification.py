"""What `gateway verify` sends, into an index of its own."""

from typing import Annotated, Required

from pydantic import Field, with_config

from schemas.event import KEEP_EXTRAS, Event
from schemas.types import Text


@with_config(KEEP_EXTRAS)
class Verification(Event, total=False):
    """Proof that an event gets from a listener into a sink; removed again."""

    verify_id: Required[Annotated[Text, Field(description="The verification it is part of.")]]
    via: Annotated[Text | None, Field(description="The listener it was sent to.")]
