"""A Kubernetes cluster for tests: an API server of our own, whose kubelet runs pods on Docker.

`cluster.running()` starts one in a thread of this process, `make cluster` starts one for kubectl and helm. It behaves
as Kubernetes does where hostler or its chart could notice; what it does not have, it refuses.
"""
