"""Cycles written down as they run, and run again under the same or other settings."""
