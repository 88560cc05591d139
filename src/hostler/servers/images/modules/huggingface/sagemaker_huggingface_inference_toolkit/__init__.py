"""What scripts import of it, where it is not installed: aws/sagemaker-huggingface-inference-toolkit."""
