"""Sees the fleet: workloads, arrivals, token lengths, latencies, capacity."""
