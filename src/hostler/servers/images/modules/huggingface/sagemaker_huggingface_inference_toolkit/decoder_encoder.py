from hostler.servers.scripts.huggingface_encoders import decode, encode
from sagemaker_huggingface_inference_toolkit import content_types

__all__ = ["decode", "encode"]


def decode_json(content: object) -> object:
    return decode(content, content_types.JSON)


def decode_csv(string_like: str) -> object:
    return decode(string_like, content_types.CSV)


def decode_image(bpayload: bytes) -> object:
    return decode(bpayload, content_types.X_IMAGE)


def decode_audio(bpayload: bytes) -> object:
    return decode(bpayload, content_types.X_AUDIO)


def encode_json(content: object, accept_type: str | None = None) -> object:
    return encode(content, content_types.JSON)


def encode_csv(content: object, accept_type: str | None = None) -> object:
    return encode(content, content_types.CSV)


def encode_image(image: object, accept_type: str = content_types.PNG) -> object:
    return encode(image, accept_type)
