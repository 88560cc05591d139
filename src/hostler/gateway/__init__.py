"""The data plane process: pick, forward, answer; nothing else."""
