"""What an endpoint needs next, and what its status is."""
