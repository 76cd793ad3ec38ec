"""Tracked runs: what a training tells TensorBoard, Weights & Biases, MLflow or a file of its own, and how."""
