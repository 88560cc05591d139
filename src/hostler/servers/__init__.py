"""Our own model servers. They run inside containers and import only `contract` and `wire`."""
