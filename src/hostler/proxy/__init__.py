"""The proxy for AWS's host names: an HTTPS proxy that answers for amazonaws.com and tunnels to every other host."""
