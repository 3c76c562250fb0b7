"""gateway.example.yaml: all settings, as they are by default, and each line of it works."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, SecretStr

from gateway.configuration import load
from gateway.settings import Settings
from gateway.settings.example import WIDTH, example
from tests.gateway_process import ROOT

FILE = ROOT / "gateway.example.yaml"
LINES = FILE.read_text(encoding="utf-8").splitlines()
TOGETHER = {"username": "password", "password": "username"}  # one is refused without the other


def settings_of(section: BaseModel, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each setting's dotted name with its value."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from settings_of(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", shown(value)


def shown(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple | list):
        return [shown(each) for each in value]
    return value


def uncommented(lines: list[str], at: int) -> list[str]:
    """Take the # away from the setting that begins at a line, and from what belongs to it."""
    indent = lines[at].partition("#")[0]
    end = at + 1
    while end < len(lines) and re.match(rf"{indent}#(  |-)", lines[end]):
        end += 1
    return [*lines[:at], *(indent + line[len(indent) + 1 :] for line in lines[at:end]), *lines[end:]]


def commented_out(lines: list[str]) -> list[int]:
    return [at for at, line in enumerate(lines) if re.match(r" *#\w+:", line)]


def read(folder: Path, lines: list[str]) -> dict[str, Any]:
    file = folder / "gateway.yaml"
    file.write_text("\n".join(lines), encoding="utf-8")
    return dict(settings_of(load(file, environ={})))


def all_uncommented(without: str) -> list[str]:
    lines = LINES
    while found := [at for at in commented_out(lines) if lines[at].strip() != without]:
        lines = uncommented(lines, found[0])
    return lines


def test_it_is_current() -> None:
    """The file is what the settings say."""
    assert FILE.read_text(encoding="utf-8") == example(), "gateway.example.yaml is old: run `make fix`"


def test_it_is_the_defaults(tmp_path: Path) -> None:
    """As it stands it changes nothing."""
    assert read(tmp_path, LINES) == dict(settings_of(Settings()))
    # Set, it would hold against the embedded store's retention.
    assert "max_age_days" not in load(FILE, environ={}).events.model_fields_set


def test_its_lines_are_short() -> None:
    """It fits a terminal."""
    assert max(map(len, LINES)) <= WIDTH


@pytest.mark.parametrize("at", commented_out(LINES), ids=lambda at: f"line {at + 1}")
def test_each_line_that_is_commented_out_works(at: int, tmp_path: Path) -> None:
    """With the # taken away a setting is sound, and no longer its default."""
    lines = uncommented(LINES, at)
    name = lines[at].strip().rstrip(":").partition(":")[0]
    if name in TOGETHER:
        other = next(n for n in commented_out(lines) if re.match(rf" *#{TOGETHER[name]}:", lines[n]))
        lines = uncommented(lines, other)
    before, after = dict(settings_of(Settings())), read(tmp_path, lines)
    assert {path for path in after if name in path.split(".") and before.get(path) != after[path]}


def test_each_setting_is_there_with_its_name_in_the_environment(tmp_path: Path) -> None:
    """Every name that stands in a comment sets, from the environment, what the file sets."""
    lines = all_uncommented(without="#api_key: a-secret")  # either that or a user
    written, values = yaml.safe_load("\n".join(lines)), read(tmp_path, lines)
    environ = {}
    for path in values:
        name = "GATEWAY_" + path.upper().replace(".", "__")
        (comment,) = [line for line in lines if re.search(rf"# .*\b{name}$|^ *# {name}$", line)]
        assert comment.strip().startswith("#"), path
        value = written
        for part in path.split("."):
            value = value.get(part) if value is not None else None
        if value is not None:
            environ[name] = value if isinstance(value, str) else json.dumps(value)
    assert len(environ) == len(values) - 1
    assert dict(settings_of(load(environ=environ))) == values
    plain = set(re.findall(r"\bELASTICSEARCH_\w+", "\n".join(LINES)))
    assert plain == {f"ELASTICSEARCH_{each}" for each in ("URL", "API_KEY", "USERNAME", "PASSWORD", "CA_CERTS")}
