"""Experiments, runs, lineage and the model registry: the only importer of mlflow.

MLflow reads these switches when it is first imported, so they are set here, before any module of this package can
import it. What the user has set already stays. mlflow itself (1.5 s) is imported inside functions, at first use.
"""

import logging
import os

_SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # "Creating initial MLflow database tables...", alembic's migrations
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # 7 retries over four minutes hide an unreachable server inside one call; the spool retries by itself, for ever
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # four more processes for features that nothing here uses
}

for _name, _value in _SWITCHES.items():
    os.environ.setdefault(_name, _value)
logging.getLogger("alembic").setLevel(logging.WARNING)
