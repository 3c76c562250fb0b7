import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichers import DEFAULT_PATTERNS, error


@pytest.mark.parametrize(
    ("message", "error_type"),
    [
        ("Timeout", "timeout"),
        ("Request timed out after 30s", "timeout"),
        ("Connection timeout", "timeout"),
        ("rpc error: code = DeadlineExceeded desc = context deadline exceeded", "timeout"),
        ("connect ETIMEDOUT 10.0.0.1:443", "timeout"),
        ("HTTP 504", "timeout"),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", "out_of_memory"),
        ("torch.cuda.OutOfMemoryError", "out_of_memory"),
        ("MemoryError: Unable to allocate 3.2 GiB", "out_of_memory"),
        ("RESOURCE_EXHAUSTED: OOM when allocating tensor with shape[1,2]", "out_of_memory"),
        ("OOMKilled", "out_of_memory"),
        ("connect ECONNREFUSED 127.0.0.1:6379", "connection"),
        ("ConnectionResetError: [Errno 104] Connection reset by peer", "connection"),
        ("Failed to connect to feature store", "connection"),
        ("[Errno -2] Name or service not known", "connection"),
        ("503 Service Unavailable", "connection"),
        ("status code: 502", "connection"),
        ("1 validation error for Request", "validation"),
        ("Validation failed for field age", "validation"),
        ("Invalid input", "validation"),
        ("ValueError: age must be positive", "validation"),
        ("422 Unprocessable Entity", "validation"),
        ("field required", "validation"),
        ("Model not found: iris-v9", "not_found"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'model.pkl'", "not_found"),
        ("404 Client Error", "not_found"),
        ("index does not exist", "not_found"),
        ("ModuleNotFoundError: No module named 'torch'", "not_found"),
        ("PermissionError: [Errno 13] Permission denied", "permission"),
        ("403 Forbidden", "permission"),
        ("401 Unauthorized: invalid token", "permission"),
        ("AccessDenied", "permission"),
        ("429 Too Many Requests", "rate_limit"),
        ("Rate limit exceeded", "rate_limit"),
        ("HTTP/1.1 429", "rate_limit"),
        ("ThrottlingException: request was throttled", "rate_limit"),
        ("KeyError: 'petal_length'", "data"),
        ("ValueError: could not convert string to float: 'n/a'", "data"),
        ("ValueError: Input X contains NaN.", "data"),
        ("ValueError: X has 3 features, but Model is expecting 4 features", "data"),
        ("shapes (1,3) and (4,2) not aligned", "data"),
        ("missing features: petal_width", "data"),
        ("JSONDecodeError: Expecting value", "data"),
        ("something went wrong", "unknown"),
        ("processed 504 rows, then gave up", "unknown"),
        ("the room was empty", "unknown"),
    ],
)
def test_names_the_error(message: str, error_type: str) -> None:
    """The message of a common failure is recognised, in any case of letters."""
    for spelled in (message, message.upper(), message.lower()):
        assert {"error": True, "error_type": error_type} == error()({"error_message": spelled})


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"error": None},
        {"error": False},
        {"error_message": None},
        {"error_message": ""},
        {"error": None, "error_message": ""},
        {"error": False, "error_message": "timeout"},
    ],
)
def test_nothing_without_an_error(event: dict[str, object]) -> None:
    """No error, or one denied by the client, has no type; `null` is absent."""
    assert error()(event) == {}


@pytest.mark.parametrize("message", [None, ""])
def test_an_error_without_a_message(message: str | None) -> None:
    """An error nobody describes is unknown."""
    expected = {"error": True, "error_type": "unknown"}

    assert expected == error()({"error": True})
    assert expected == error()({"error": True, "error_message": message})


def test_an_error_as_sent() -> None:
    """An error that is sent with its message has a type like any other."""
    added = error()({"error": True, "error_message": "timeout"})

    assert added == {"error": True, "error_type": "timeout"}


def test_own_patterns_are_tried_in_their_order() -> None:
    """Patterns are settings, names of types too, and the first that fits wins."""
    enrich = error(patterns={"gpu": "cuda", "memory": "memory"})

    assert enrich({"error_message": "CUDA out of memory"})["error_type"] == "gpu"
    assert enrich({"error_message": "out of memory"})["error_type"] == "memory"
    assert enrich({"error_message": "timeout"})["error_type"] == "unknown"


def test_a_bad_pattern_is_named() -> None:
    """A pattern that is no regular expression is refused before any event."""
    with pytest.raises(ValueError, match="'gpu' is no regular expression"):
        error(patterns={"gpu": "("})


def test_the_types_are_those_promised() -> None:
    """The default patterns give the promised types, `unknown` being the rest."""
    assert {
        "timeout",
        "out_of_memory",
        "connection",
        "validation",
        "not_found",
        "permission",
        "rate_limit",
        "data",
    } == set(DEFAULT_PATTERNS)


def test_the_end_of_a_long_traceback_counts() -> None:
    """A traceback of any length is named by its last line, as a short one is."""
    message = "  File 'serve.py', line 1\n" * 40_000 + "TimeoutError"

    assert error()({"error_message": message})["error_type"] == "timeout"


@pytest.mark.parametrize("piece", ["shape ", "http ", "error ", "connection ", "must be "])
def test_a_hostile_message_costs_little(piece: str) -> None:
    """A megabyte made to please the patterns takes no longer than a moment."""
    started = time.perf_counter()

    error()({"error_message": piece * (2**20 // len(piece))})

    assert time.perf_counter() - started < 1


@given(st.text())
def test_any_message_has_a_type(message: str) -> None:
    """Every message is an error of exactly one type; only an empty one is no error."""
    added = error()({"error_message": message})

    assert (message != "") == bool(added)
    assert not added or added["error_type"] in {*DEFAULT_PATTERNS, "unknown"}
