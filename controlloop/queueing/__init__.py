"""Queueing models of one replica, over arrays of pairs."""
