from types import MappingProxyType

from enrichers import ENRICHERS
from schemas import BUILT_IN


def test_all_enrichers_need_no_settings() -> None:
    """Every enricher has defaults, leaves the event alone, and says nothing of an empty one."""
    assert [factory()(MappingProxyType({})) for factory in ENRICHERS] == [{}] * len(ENRICHERS)


def test_every_added_field_is_stored() -> None:
    """Each field that an enricher adds to an inference event has a column and a mapping."""
    event = MappingProxyType(
        {
            "prediction_confidence": 0.9,
            "inference_time_ms": 25,
            "prediction_class": 1,
            "true_label": "1",
            "error_message": "timeout",
        }
    )
    added = {field: value for factory in ENRICHERS for field, value in factory()(event).items()}

    assert added == {
        "confidence_level": "high",
        "latency_category": "fast",
        "prediction_correct": True,
        "prediction_accuracy": 1.0,
        "error": True,
        "error_type": "timeout",
    }
    assert added.keys() <= BUILT_IN.columns(BUILT_IN.kinds["model_inference"].index).keys()
