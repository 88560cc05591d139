"""Metrics: statistics of values, series that they belong to, and what is computed of them."""
