"""How bulks and their answers are written and read: ready bytes, and no object for what went well."""

from __future__ import annotations

from typing import Any

import orjson
from elastic_transport import JsonSerializer, NdjsonSerializer, SerializationError

from gateway.sinks.elasticsearch.verdicts import Created

_ITEMS, _END = b'{"errors":false,"items":[', b"]}"
_CREATED = b'{"create":{"status":201}}'
_BULK_ANSWERS = (b'{"errors":false,', b'{"errors":true,')


class Bodies(NdjsonSerializer):
    """Leaves ready bytes as they are. The client's own copies them twice, megabytes each time."""

    def dumps(self, data: Any) -> bytes:
        """Return the bytes given, or lines made of anything else, as of searches."""
        return data if isinstance(data, bytes) else super().dumps(data)


class Answers(JsonSerializer):
    """Reads an answer as the client's own does; of a bulk that went well only how many items it has."""

    def loads(self, data: bytes) -> Any:
        """Return the answer decoded; ``items`` may be a `Created`."""
        if not data.startswith(_BULK_ANSWERS):
            return super().loads(data)
        if data.startswith(_ITEMS):
            count = data.count(_CREATED)
            if len(data) == len(_ITEMS) + count * (len(_CREATED) + 1) - (count > 0) + len(_END):  # and nothing else
                return {"errors": False, "items": Created(count)}
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise SerializationError(f"Unable to deserialize as JSON: {error}", errors=(error,)) from None
