"""Where a loaded model is called: in this process, in one of its own, or in several that hold the same."""
