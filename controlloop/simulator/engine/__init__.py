"""Replicas of one server, iteration by iteration; compiled."""
