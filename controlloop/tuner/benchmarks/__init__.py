"""Readers of benchmark files: guidellm's report, reduced sweeps and CSV, all into `Sweeps`."""
