"""From bytes in S3 to a folder on disk: sources, safe extraction, the shared disk cache."""
