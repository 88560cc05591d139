"""The entry points of spawned processes, and a guard against those that the user's code forks."""
