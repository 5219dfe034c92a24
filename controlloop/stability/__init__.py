"""Keeps control steady: bounds, windows, holds; one plug-in a file."""
