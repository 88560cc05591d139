"""The processes that a model server starts: what runs in them, and what may not."""
