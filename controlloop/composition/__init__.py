"""The only place that reads the environment, builds objects and chooses plug-ins."""
