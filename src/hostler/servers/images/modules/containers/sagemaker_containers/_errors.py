from hostler.servers.scripts.containers_encoders import ClientError, UnsupportedFormatError

__all__ = ["ClientError", "UnsupportedFormatError"]
