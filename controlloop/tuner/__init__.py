"""Estimators of performance parameters; one plug-in a file."""
