"""Loading and calling models: in this process, in one of its own, or in several replicas."""
