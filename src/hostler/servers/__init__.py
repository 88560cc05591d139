"""hostler's own model servers, which run inside containers.

They import `contract`, `failures`, `text`, `wire` and `processes` and nothing above. Only a framework's own module
imports numpy, xgboost or scikit-learn, and only an artifact that needs it imports that module.
"""
