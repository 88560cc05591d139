"""hostler's own model servers: what runs inside a container.

They import `contract`, `wire` and `processes` and nothing above. Numpy, xgboost and scikit-learn are imported by their
own modules only, and those only when an artifact asks for them.
"""
