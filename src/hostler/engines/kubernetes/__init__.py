"""Instances as pods of Kubernetes."""
