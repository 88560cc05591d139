"""The control process: API operations, one file per resource, and the objects of the embedded S3."""
