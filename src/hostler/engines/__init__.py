"""Engines run containers. An engine never decides, never retries, never sends HTTP to a container."""
