"""Serves the optimizer from custom resources: their specs in, their statuses out."""
