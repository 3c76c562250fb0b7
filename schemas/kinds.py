"""The built-in kinds of events."""

from schemas.added import Enrichment
from schemas.alert import Alert
from schemas.audit import Audit
from schemas.data_quality import DataQuality
from schemas.inference import Inference
from schemas.kind import Kind
from schemas.label import Label
from schemas.lineage import Lineage
from schemas.log import Log
from schemas.mlflow import MLflowDocument, MLflowEvent
from schemas.operation import Operation
from schemas.registry import Registry
from schemas.training import Training
from schemas.verification import Verification

MLFLOW = Kind(
    "mlflow_event", "model_training", "ml-training", MLflowEvent, decided_by=("event_type",), document=MLflowDocument
)
INFERENCE = Kind(
    "model_inference", "model_inference", "ml-metrics", Inference, decided_by=("model_name",), added=Enrichment
)
TRAINING = Kind("model_training", "model_training", "ml-training", Training)
DATA_QUALITY = Kind(
    "data_quality", "data_quality", "data-quality", DataQuality, decided_by=("check_name", "dataset_name")
)
LOG = Kind("log", "log", "ml-pipeline", Log, decided_by=("message", "level", "@version"))
LABEL = Kind("label", "label", "ml-labels", Label)
OPERATION = Kind("operation", "operation", "ml-operations", Operation)
AUDIT = Kind("audit", "audit", "ml-audit", Audit)
LINEAGE = Kind("lineage", "lineage", "ml-lineage", Lineage)
ALERT = Kind("alert", "alert", "ml-alerts", Alert)
# Its type is one that no user's events have: theirs are read as they were before there was this kind.
VERIFICATION = Kind("verification", "gateway_verification", "ml-verify", Verification, internal=True)

# An event that names no type is of the first that has one of its deciding keys.
BUILT_IN = Registry(
    (MLFLOW, INFERENCE, TRAINING, DATA_QUALITY, LOG, LABEL, OPERATION, AUDIT, LINEAGE, ALERT, VERIFICATION)
)
