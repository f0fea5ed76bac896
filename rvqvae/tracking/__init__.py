"""Runs in MLflow, the view that its page has of them, and serving: the only room that imports mlflow."""
