"""What scripts import of ts, where it is not installed: pytorch/serve."""
