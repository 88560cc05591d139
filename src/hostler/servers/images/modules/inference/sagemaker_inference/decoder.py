from hostler.servers.scripts.inference_encoders import csv_to_numpy as _csv_to_numpy
from hostler.servers.scripts.inference_encoders import decode as decode
from hostler.servers.scripts.inference_encoders import json_to_numpy as _json_to_numpy
from hostler.servers.scripts.inference_encoders import npy_to_numpy as _npy_to_numpy
from hostler.servers.scripts.inference_encoders import npz_to_sparse as _npz_to_sparse

__all__ = ["_csv_to_numpy", "_json_to_numpy", "_npy_to_numpy", "_npz_to_sparse", "decode"]
