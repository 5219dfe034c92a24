"""The interfaces: wire forms, domain values, and what the stages hand on."""
