"""What runs containers. An engine never decides, never retries, never talks HTTP to a container."""
