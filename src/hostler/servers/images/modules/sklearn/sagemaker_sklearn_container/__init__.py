"""What scripts import of sagemaker_sklearn_container: aws/sagemaker-scikit-learn-container."""
