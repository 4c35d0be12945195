"""Say nothing to anyone: the switches that must be set before MLflow or Optuna is imported."""

NO_TELEMETRY = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # mlflow/telemetry/utils.py reads both of these
    "DO_NOT_TRACK": "true",  # and so do other tools
}
