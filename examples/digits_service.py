"""A digit classifier that logs every prediction to the gateway: digits_service.py [HOST [PORT]]

Needs scikit-learn and python-logstash-async (pip install '.[sklearn]' in this repository) and a running gateway.
"""

import logging
import os
import sys
import time
import uuid

from logstash_async import EVENT_CACHE
from logstash_async.constants import constants
from logstash_async.formatter import LogstashFormatter
from logstash_async.handler import AsynchronousLogstashHandler
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

host = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("LOGSTASH_HOST", "127.0.0.1")
port = int(sys.argv[2] if len(sys.argv) > 2 else os.environ.get("LOGSTASH_PORT", "5001"))

constants.SOCKET_CLOSE_WAIT_TIMEOUT = 2.0  # how long an unreachable gateway may hold up the exit

# The queue is kept in memory; a file name instead of None makes it survive a restart of the service.
handler = AsynchronousLogstashHandler(host, port, database_path=None)
# Without a prefix, the fields given as `extra` are fields of the event itself.
handler.setFormatter(LogstashFormatter(message_type="model_inference", extra_prefix=None))
log = logging.getLogger("digits")
log.setLevel(logging.INFO)
log.addHandler(handler)

images, digits = load_digits(return_X_y=True)
train_x, test_x, train_y, test_y = train_test_split(images / 16, digits, test_size=0.5, random_state=0)
model = LogisticRegression(max_iter=1000).fit(train_x, train_y)

for image, digit in zip(test_x, test_y, strict=True):
    started = time.perf_counter()
    probabilities = model.predict_proba([image])[0]
    elapsed_ms = (time.perf_counter() - started) * 1000
    best = probabilities.argmax()
    prediction = {
        "event_id": str(uuid.uuid4()),
        "request_id": str(uuid.uuid4()),
        "model_name": "digits",
        "model_version": "1.0.0",
        "prediction_confidence": float(probabilities[best]),
        "prediction_class": int(model.classes_[best]),  # the formatter would write NumPy's numbers as text
        "true_label": int(digit),
        "inference_time_ms": elapsed_ms,
    }
    log.info("prediction", extra=prediction)

handler.close()  # sends what is still queued; flush() alone only asks for it
print(f"{len(test_y)} predictions, accuracy {model.score(test_x, test_y):.4f} (scikit-learn)")
if EVENT_CACHE:
    sys.exit(f"{len(EVENT_CACHE)} of them did not reach {host}:{port}: start the gateway (make run).")
