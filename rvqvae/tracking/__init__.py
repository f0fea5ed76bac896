"""Runs in MLflow, the view that its page has of them, and served models: the only room that imports mlflow."""
