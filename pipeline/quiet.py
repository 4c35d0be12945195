"""Say nothing to anyone: the switches that must be set before MLflow, Optuna or Ray is imported."""

NO_TELEMETRY = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # mlflow/telemetry/utils.py reads both of these
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "true",  # and so do other tools
}
