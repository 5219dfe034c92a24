"""A plant of inference servers that drives the real cycle under another clock."""
