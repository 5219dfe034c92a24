"""What arrives: requests from generators and from traces, the same for every policy."""
