"""Predicts each server's load; one plug-in a file."""
