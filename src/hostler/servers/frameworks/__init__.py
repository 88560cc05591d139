"""Loading and prediction: one file per framework."""
