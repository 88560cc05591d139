"""Which targets of an instance are loaded, which leave, and which come next."""
