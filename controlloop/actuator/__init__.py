"""Makes decisions real: a pure difference, then patches."""
