"""Whether Elasticsearch has the templates as wanted, and no index that maps a known field otherwise."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.settings import Elasticsearch
from gateway.sinks.elasticsearch import lifecycle, templates
from gateway.sinks.elasticsearch.client import RequestFailed, request
from gateway.sinks.elasticsearch.lifecycle import LifecycleUnusable
from gateway.sinks.elasticsearch.templates import Body, Outcome
from schemas import Registry

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

MOST_FIELDS = 10  # named of one index
_ODD = "Elasticsearch gave an answer to a request for mappings that is not one."
_APPLY = "run `gateway templates apply`"
_DAY = re.compile(r"-(\d{4}\.\d\d\.\d\d)")


class Finding(NamedTuple):
    """What was found, and when it is wrong what to do."""

    sound: bool
    text: str


async def inspect(
    client: AsyncElasticsearch, settings: Elasticsearch, prefix: str, registry: Registry
) -> list[Finding]:
    """Return a finding for the policy, each template and the indices that are there; raise `RequestFailed`."""
    findings = []
    wish = None
    if settings.ilm and settings.retention_days is not None:
        findings.append(await _policy(client, prefix, settings.retention_days))
        wish = lifecycle.index_settings(prefix)
    wanted = templates.wanted(settings, prefix, registry, wish)
    present = await templates.present(client, "*")
    for index in registry.indices:
        name = templates.name_of(prefix, index)
        findings.append(await _template(client, name, present.get(name), wanted[name], f"{prefix}{index}"))
    findings += _shadows(present, wanted)
    for index in registry.indices:
        body = wanted[templates.name_of(prefix, index)]
        findings += await _indices(client, f"{prefix}{index}", _properties(body))
    return findings


async def _policy(client: AsyncElasticsearch, prefix: str, days: int) -> Finding:
    name = lifecycle.policy_name(prefix)
    try:
        outcome = await lifecycle.look(client, prefix, days)
    except LifecycleUnusable as error:
        return Finding(False, str(error))
    if outcome is Outcome.LEFT_ALONE:
        return Finding(True, f"{name} is a policy of your own")
    if outcome is Outcome.UNCHANGED:
        return Finding(True, f"{name} deletes indices after {days} days")
    return Finding(False, f"The policy {name} is {_lack(outcome)}: {_APPLY}.")


async def _template(client: AsyncElasticsearch, name: str, found: Body | None, wanted: Body, index: str) -> Finding:
    outcome = templates.compare(found, wanted, exactly=True)
    if outcome is Outcome.UNCHANGED:
        return Finding(True, name)
    if outcome is not Outcome.LEFT_ALONE:
        return Finding(False, f"The template {name} is {_lack(outcome)}: {_APPLY}.")
    answer = await request(client, "POST", f"/_index_template/_simulate_index/{index}-{_tomorrow()}")
    wrong = list(_conflicts(_properties(wanted), _properties(answer)))
    if not wrong:
        return Finding(True, f"{name} is your own, and maps the known fields as wanted or not at all")
    return Finding(
        False,
        f"The template {name} is your own, but {_listed(wrong)}: change it, or delete it and {_APPLY}.",
    )


def _shadows(present: Mapping[str, Body], wanted: Mapping[str, Body]) -> Iterator[Finding]:
    """Walk the templates that new indices would be made of instead."""
    for other, body in present.items():
        used = [name for name in wanted if name != other and _wins(body, present.get(name, wanted[name]), wanted[name])]
        if used:
            yield Finding(
                False,
                f"The template {other} (priority {body['priority']}) is used instead of {', '.join(used)}: "
                "lower its priority, or narrow its index_patterns.",
            )


def _wins(other: Body, body: Body, wanted: Body) -> bool:
    """Whether a daily index is made of another template."""
    if other.get("priority", 0) <= body.get("priority", 0):
        return False
    [pattern] = wanted["index_patterns"]
    index = pattern.replace("*", _tomorrow())
    return any(_matches(each, index) for each in other.get("index_patterns", ()))


async def _indices(client: AsyncElasticsearch, index: str, wanted: Body) -> list[Finding]:
    """Return a finding for the daily indices that are there, one more for each way in which some are wrong."""
    answer = await request(client, "GET", f"/{index}-*/_mapping?expand_wildcards=open,closed&allow_no_indices=true")
    if not isinstance(answer, dict):
        raise RequestFailed(_ODD)
    sound = 0
    wrong: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, mapping in sorted(answer.items()):
        if _DAY.fullmatch(name.removeprefix(index)):
            conflicts = tuple(_conflicts(wanted, _properties({"template": mapping})))
            if conflicts:
                wrong[conflicts].append(name)
            else:
                sound += 1
    there = sound + sum(map(len, wrong.values()))
    text = f"{index}-*: known fields as wanted in {sound} of {there} daily indices"
    findings = [Finding(True, text)] if sound else []
    for conflicts, names in wrong.items():
        which = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more until {names[-1]}"
        findings.append(
            Finding(
                False,
                f"{which}: {_listed(conflicts)}: no index changes its mapping; reindex or delete it, "
                "or wait for the next day's.",
            )
        )
    return findings


def _conflicts(wanted: Mapping[str, Any], found: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Walk the fields that are there and mapped otherwise; one that is not there may still become what is wanted."""
    for name, field in wanted.items():
        there = found.get(name)
        if there is None:
            continue
        kind, other = _kind(field), _kind(there)
        if kind != other:
            yield f"{path}{name} is {other}, {kind} is wanted"
        else:
            yield from _conflicts(field.get("properties", {}), there.get("properties", {}), f"{path}{name}.")


def _kind(field: Mapping[str, Any]) -> str:
    kind = str(field.get("type", "object"))
    return f"{kind} without index" if field.get("enabled") in (False, "false") else kind


def _properties(template: Any) -> Body:
    """Return the mapped fields of a template's body."""
    try:
        return dict(template["template"]["mappings"].get("properties", {}))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise RequestFailed(_ODD) from None


def _lack(outcome: Outcome) -> str:
    return "not there" if outcome is Outcome.CREATED else "not as wanted (other settings, another version, by hand)"


def _listed(conflicts: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(conflicts) - MOST_FIELDS} more" if len(conflicts) > MOST_FIELDS else ""
    return ", ".join(conflicts[:MOST_FIELDS]) + more


def _matches(pattern: str, name: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None


def _tomorrow() -> str:
    """Return the day of which there is no index yet."""
    return f"{datetime.now(UTC) + timedelta(days=1):%Y.%m.%d}"
