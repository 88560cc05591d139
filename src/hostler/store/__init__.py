"""State that survives kill -9: SQLAlchemy Core on SQLite."""
