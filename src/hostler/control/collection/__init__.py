"""Collects metrics for CloudWatch: of the gateways' journals, and control's own, into the metric store."""
