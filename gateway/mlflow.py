"""What a training pipeline that tells of itself by MLflow events calls its steps."""

STEPS = (
    "data_loading",
    "data_cleaning",
    "data_preparation",
    "scaling",
    "model_training",
    "model_evaluation",
    "model_saving",
)
"""In their order."""
RUN = "mlflow_run"
"""Stands where a step does for the whole run."""
