"""The pictures for the documents can be made."""

import struct
from pathlib import Path

from tests.browser import screenshots


def test_the_first_page_is_pictured(tmp_path: Path) -> None:
    """Light, dark and on a phone, at their sizes, three different ones, small enough for the documents."""
    written = screenshots.take({"overview": "/"}, tmp_path / "pictures", tmp_path / "gateway")
    assert [each.name for each in written] == ["overview.png", "overview-dark.png", "overview-phone.png"]
    pictures = [each.read_bytes() for each in written]
    # A PNG has its width and height behind its signature and the name of its first part.
    assert [struct.unpack(">II", each[16:24]) for each in pictures] == [(1280, 800), (1280, 800), (360, 740)]
    assert len(set(pictures)) == 3
    assert all(10_000 < len(each) < 200_000 for each in pictures)
