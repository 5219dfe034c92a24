"""Decides accelerator, replicas and batch size for every LLM inference server of a cluster."""

__version__ = "0.1.0"
