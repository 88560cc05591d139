"""What scripts import of mms, where it is not installed: awslabs/multi-model-server."""
