"""From an object in S3 to a folder on disk: sources, safe extraction, the shared cache, a container's storage."""
