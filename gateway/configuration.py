"""Reads the settings: YAML file, environment and flags, with every mistake found at once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import orjson
import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
)
from pydantic_settings import (
    SettingsError as PydanticSettingsError,
)

from gateway.errors import SettingsError
from gateway.settings import Settings

DEFAULT_FILE = Path("gateway.yaml")

# Environment names without `__` that are read; all others are left alone, since
# Kubernetes sets names such as GATEWAY_PORT for a service called "gateway".
PLAIN_NAMES = {
    "GATEWAY_DATA_DIR": "data_dir",
    "GATEWAY_DECODER": "decoder",
    "GATEWAY_DRAIN_TIMEOUT_SECS": "drain_timeout_secs",
    "GATEWAY_WORKERS": "workers",
    "ELASTICSEARCH_URL": "elasticsearch.urls",
    "ELASTICSEARCH_API_KEY": "elasticsearch.api_key",
    "ELASTICSEARCH_USERNAME": "elasticsearch.username",
    "ELASTICSEARCH_PASSWORD": "elasticsearch.password",
    "ELASTICSEARCH_CA_CERTS": "elasticsearch.ca_certs",
}
_SECTIONS = set(Settings.model_fields) - {"data_dir", "decoder", "drain_timeout_secs", "workers"}
SECRETS = ("elasticsearch.api_key", "elasticsearch.password", "http.api_keys")


def load(
    file: Path | None = None, environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> Settings:
    """Return the settings; raise `SettingsError` with every mistake in them."""
    settings, mistakes = examine(file, environ, flags)
    if mistakes:
        raise SettingsError(mistakes)
    return settings


def examine(
    file: Path | None = None, environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> tuple[Settings, list[str]]:
    """Return the settings, and every mistake in them; a section with a mistake is left at its defaults.

    ``flags`` are nested like the settings and beat everything; without ``file``
    a ``gateway.yaml`` in the working directory is read when there is one.
    """
    mistakes: list[str] = []
    from_file = _read_yaml(file, mistakes)
    from_environ = _read_environ(os.environ if environ is None else environ, mistakes)
    from_flags = dict(flags or {})

    class Sources(Settings):
        """The tree with its three sources, in the order of their rank."""

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (
                init_settings,
                _Environment(settings_cls, from_environ),
                InitSettingsSource(settings_cls, init_kwargs=from_file),
            )

    while True:
        try:
            settings = Sources(**from_flags)
            # What is at its defaults for a mistake of its own is not held against the rest.
            return settings, mistakes or list(_contradictions(settings))
        except ValidationError as error:
            mistakes += [_sentence(fault) for fault in error.errors()]
            wrong = {str(fault["loc"][0]) for fault in error.errors()}
            from_flags = {name: value for name, value in from_flags.items() if name not in wrong}
            from_file = {name: value for name, value in from_file.items() if name not in wrong}
            from_environ = {name: value for name, value in from_environ.items() if _section_of(name) not in wrong}
        except PydanticSettingsError as error:
            mistakes.append(f"The environment cannot be read: {error}.")
            from_environ = {}  # what is wrong elsewhere is told too


class _Environment(EnvSettingsSource):
    """The environment source of pydantic-settings, given only the names that are ours."""

    def __init__(self, settings_cls: type[BaseSettings], names: dict[str, str | None]) -> None:
        self._names = names
        super().__init__(settings_cls)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._names


def _read_yaml(file: Path | None, mistakes: list[str]) -> dict[str, Any]:
    path = file or DEFAULT_FILE
    if file is None and not path.exists():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        mistakes.append(f"The settings file {path} cannot be read: {error.strerror}.")
    except yaml.MarkedYAMLError as error:
        # The error's own text quotes the line, which may hold a password.
        at = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        mistakes.append(f"The settings file {path} is not valid YAML{at}.")
    except (yaml.YAMLError, UnicodeDecodeError):
        mistakes.append(f"The settings file {path} is not valid YAML: it is not text in UTF-8.")
    else:
        if isinstance(content, dict):
            return _without_empty({str(name): value for name, value in content.items()}, Settings)
        if content is not None:
            mistakes.append(f"The settings file {path} must hold names and values, such as `tcp:`.")
    return {}


def _without_empty(content: dict[str, Any], section: type[BaseModel]) -> dict[str, Any]:
    """Leave out sections with nothing in them, such as `limits:` when every line below it is commented out."""
    sections = {
        name: field.annotation
        for name, field in section.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    return {
        name: _without_empty(value, sections[name]) if name in sections and isinstance(value, dict) else value
        for name, value in content.items()
        if value is not None or name not in sections
    }


def _read_environ(environ: Mapping[str, str], mistakes: list[str]) -> dict[str, str | None]:
    """Return what the environment sets, by the one form of name that pydantic-settings reads."""
    read: dict[str, str | None] = {}
    for given, value in environ.items():
        name = given
        if name.endswith("_FILE") and _path_of(name.removesuffix("_FILE")) in SECRETS:
            name = name.removesuffix("_FILE")
            try:
                content = Path(value).read_text(encoding="utf-8").strip()
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
                mistakes.append(f"{given} names the file {value}, which cannot be read: {reason}.")
                continue
            if not content:
                mistakes.append(f"{given} names the file {value}, which is empty.")
                continue
            value = content
        path = _path_of(name)
        if path is None or (value == "" and name in PLAIN_NAMES):
            continue
        section, _, _ = path.partition(".")
        if section not in _SECTIONS and name not in PLAIN_NAMES:
            mistakes.append(f"{given} is not a setting: there is no section {section!r}, {_known(section, _SECTIONS)}")
            continue
        if path in ("elasticsearch.urls", "http.api_keys", "schemas.files") and not value.lstrip().startswith("["):
            value = orjson.dumps([part.strip() for part in re.split(r"[,\n]", value) if part.strip()]).decode()
        read["gateway_" + path.replace(".", "__")] = None if value == "null" else value
    return read


def _section_of(name: str) -> str:
    """Return the section of a name that `_read_environ` returns."""
    return name.removeprefix("gateway_").partition("__")[0]


def _path_of(name: str) -> str | None:
    """Return the setting that an environment name means, such as ``tcp.port``; None when it is not ours."""
    if name in PLAIN_NAMES:
        return PLAIN_NAMES[name]
    if name.startswith("GATEWAY_") and "__" in name:
        return name.removeprefix("GATEWAY_").lower().replace("__", ".")
    return None


def _contradictions(settings: Settings) -> Iterator[str]:
    """Say what is sound in each section but not in all of them together."""
    if not settings.elasticsearch.urls and not settings.store_enabled:
        yield "No sink: set elasticsearch.urls, or leave store.enabled unset."
    sinks = []
    if settings.elasticsearch.urls:
        sinks.append(("elasticsearch.required", settings.elasticsearch.required))
    if settings.store_enabled:
        sinks.append(("store.required", settings.store.required))
    if sinks and not any(required for _, required in sinks):
        names = " and ".join(name for name, _ in sinks)
        yield f"{names}: at least one sink has to be required, else events could be skipped by all."
    tcp, http = settings.tcp, settings.http
    if tcp.key_required and not http.api_keys:
        yield "tcp.key_required needs a key: set http.api_keys."
    listeners = [("http.port", http.host, http.port)]
    if tcp.enabled:
        listeners.append(("tcp.port", tcp.host, tcp.port))
    if tcp.enabled and tcp.tls is not None:
        listeners.append(("tcp.tls_port", tcp.host, tcp.tls_port))
    for (name, host, port), (other, there, same) in combinations(listeners, 2):
        if port == same != 0 and (host == there or {host, there} & {"0.0.0.0", "::"}):  # noqa: S104 - said, not bound
            yield f"{other}: {port} is {name} too: choose another port."


def _sentence(fault: ErrorDetails) -> str:
    """Return one sentence of what is wrong with which setting; values of secrets are not shown."""
    path = ".".join(map(str, fault["loc"])) or "settings"
    if fault["type"] == "extra_forbidden":
        *steps, name = map(str, fault["loc"])
        return f"{path} is not a setting: {_known(name, _section_at(steps).model_fields, steps)}"
    given = fault["input"]
    # A section that is not one may be a secret at the wrong place.
    secret = any(path.startswith(name) or name.startswith(f"{path}.") for name in SECRETS)
    shown = (
        ""
        if secret or path.startswith("elasticsearch.urls") or isinstance(given, dict | list | BaseModel)
        else f" (given: {given!r})"
    )
    return f"{path}: {_message(fault)}{shown}."


def _message(fault: ErrorDetails) -> str:
    """Say what is wrong in the words of a settings file, not in those of Python."""
    match fault["type"]:
        case "model_type":
            return f"write names and values, such as {_example(_section_at(map(str, fault['loc'])))}"
        case "tuple_type":
            return "write a list, such as [one, two]"
        case "string_type" if isinstance(fault["input"], int | float):
            return "write it in quotes, since it is a text"
    return fault["msg"].removeprefix("Value error, ")


def _known(name: str, names: Iterable[str], steps: Iterable[str] = ()) -> str:
    """End a sentence with the name that was meant, or with those that there are."""
    names = sorted(names)
    close = get_close_matches(name, names, n=1)
    return f"did you mean {'.'.join([*steps, close[0]])}?" if close else f"there are {', '.join(names)}."


def _section_at(steps: Iterable[str]) -> type[BaseModel]:
    """Return the section that a path leads to; what is no setting on it is a name in a map or a place in a list."""
    section: type[BaseModel] = Settings
    for step in steps:
        if step in section.model_fields:
            section = _section_in(section.model_fields[step].annotation) or section
    return section


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a setting is, or holds in a list or map."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _section_in(each))), None)


def _example(section: type[BaseModel]) -> str:
    """Return the first setting of a section with a value."""
    name, field = next(iter(section.model_fields.items()))
    value = field.examples[0] if field.examples else field.get_default(call_default_factory=True)
    shown = value.model_dump() if isinstance(value, BaseModel) else value
    return yaml.safe_dump({name: shown}, default_flow_style=True, width=1000).strip()
