"""Contracts that plug-ins keep, as test classes to derive from, and Hypothesis strategies.

Needs pytest and Hypothesis: the extra `testing`. Nothing of the project imports this package.
"""
