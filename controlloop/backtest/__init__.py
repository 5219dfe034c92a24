"""Policies side by side on equal traffic: baselines, tuning, scoring, sweeps, reports."""
