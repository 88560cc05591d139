"""The control process: SageMaker's operations, STS, and hostler's own pages."""
