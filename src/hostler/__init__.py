"""hostler: model hosting on your own machines, spoken to with Amazon SageMaker's hosting API."""

__version__ = "0.1.0"
