"""A user's script, called as the toolkit of its image calls it: a module for each toolkit."""
