"""SageMaker's hosting operations: one file per resource."""
