"""What scripts import of sagemaker_pytorch_serving_container: aws/sagemaker-pytorch-inference-toolkit."""
