"""Reads the settings: YAML file, environment and flags, with every mistake found at once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    "GATEWAY_DRAIN_TIMEOUT_SECS": "drain_timeout_secs",
    "ELASTICSEARCH_URL": "elasticsearch.urls",
    "ELASTICSEARCH_API_KEY": "elasticsearch.api_key",
    "ELASTICSEARCH_USERNAME": "elasticsearch.username",
    "ELASTICSEARCH_PASSWORD": "elasticsearch.password",
    "ELASTICSEARCH_CA_CERTS": "elasticsearch.ca_certs",
}
_SECTIONS = set(Settings.model_fields) - {"data_dir", "drain_timeout_secs"}
SECRETS = ("elasticsearch.api_key", "elasticsearch.password", "http.api_keys")


def load(
    file: Path | None = None, environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> Settings:
    """Return the settings; raise `SettingsError` with every mistake.

    ``flags`` are nested like the settings and beat everything; without ``file``
    a ``gateway.yaml`` in the working directory is read when there is one.
    """
    mistakes: list[str] = []
    from_file = _read_yaml(file, mistakes)
    from_environ = _read_environ(os.environ if environ is None else environ, mistakes)

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
            settings = Sources(**dict(flags or {}))
        except ValidationError as error:
            mistakes += [_sentence(fault) for fault in error.errors()]
        except PydanticSettingsError as error:
            mistakes.append(f"The environment cannot be read: {error}.")
            if from_environ:
                from_environ = {}  # what is wrong elsewhere is told too
                continue
        break
    if mistakes:
        raise SettingsError(mistakes)
    return settings


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
            return {str(name): value for name, value in content.items()}
        if content is not None:
            mistakes.append(f"The settings file {path} must hold names and values, such as `tcp:`.")
    return {}


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
            mistakes.append(f"{given} is not a setting: there is no section {section!r}.")
            continue
        if path in ("elasticsearch.urls", "http.api_keys") and not value.lstrip().startswith("["):
            value = orjson.dumps([part.strip() for part in re.split(r"[,\n]", value) if part.strip()]).decode()
        read["gateway_" + path.replace(".", "__")] = None if value == "null" else value
    return read


def _path_of(name: str) -> str | None:
    """Return the setting that an environment name means, such as ``tcp.port``; None when it is not ours."""
    if name in PLAIN_NAMES:
        return PLAIN_NAMES[name]
    if name.startswith("GATEWAY_") and "__" in name:
        return name.removeprefix("GATEWAY_").lower().replace("__", ".")
    return None


def _sentence(fault: ErrorDetails) -> str:
    """Return one sentence of what is wrong with which setting; values of secrets are not shown."""
    path = ".".join(map(str, fault["loc"])) or "settings"
    if fault["type"] == "extra_forbidden":
        return f"{path} is not a setting: check its spelling."
    message = fault["msg"].removeprefix("Value error, ")
    given = fault["input"]
    # A section that is not one may be a secret at the wrong place.
    secret = any(path.startswith(name) or name.startswith(f"{path}.") for name in SECRETS)
    shown = (
        ""
        if secret or path.startswith("elasticsearch.urls") or isinstance(given, dict | list | BaseModel)
        else f" (given: {given!r})"
    )
    return f"{path}: {message}{shown}."
