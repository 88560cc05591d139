"""What scripts import of sagemaker_xgboost_container: aws/sagemaker-xgboost-container."""
