from hostler.servers.scripts.huggingface_encoders import decode, encode

__all__ = ["decode", "encode"]
