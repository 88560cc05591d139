"""One invocation, from its headers to its answer."""
