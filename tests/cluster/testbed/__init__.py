"""A real cluster in processes: control plane, GPU nodes, Prometheus, emulated servers, faults."""
