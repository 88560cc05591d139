"""Processes and all that descends from them: starting, watching and ending them. Shared by the host and the servers."""
