from hostler.servers.scripts.containers_encoders import array_to_json as _array_to_json
from hostler.servers.scripts.containers_encoders import array_to_npy as _array_to_npy
from hostler.servers.scripts.inference_encoders import SUPPORTED_CONTENT_TYPES, encode
from hostler.servers.scripts.inference_encoders import array_to_csv as _array_to_csv

__all__ = ["SUPPORTED_CONTENT_TYPES", "_array_to_csv", "_array_to_json", "_array_to_npy", "encode"]
