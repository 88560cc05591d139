"""The embedded S3: objects are plain files."""
