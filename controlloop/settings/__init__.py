"""Settings: one tree of frozen sections, its file and environment, its rules."""
