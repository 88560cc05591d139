"""The targets of multi-model endpoints: loaded, published, unloaded."""
