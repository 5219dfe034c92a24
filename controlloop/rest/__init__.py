"""HTTP: the daemon's endpoints, and the optimizer's REST API."""
