"""What scripts import of sagemaker_inference, where it is not installed: aws/sagemaker-inference-toolkit."""
