"""State that survives kill -9, on SQLite by SQLAlchemy Core."""
