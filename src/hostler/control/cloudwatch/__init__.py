"""CloudWatch's operations on metrics: written by programs and by hostler, and read back (§9)."""
