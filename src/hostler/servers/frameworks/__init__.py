"""What serves a model: one file per framework."""
