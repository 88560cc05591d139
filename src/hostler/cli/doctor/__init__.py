"""`hostler doctor`: what this machine, or a cluster, lacks for hostler."""
