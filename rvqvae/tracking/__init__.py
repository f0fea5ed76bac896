"""Runs in MLflow, and models served by it: the only room that imports mlflow."""
