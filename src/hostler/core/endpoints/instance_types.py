"""What memory, processors and GPUs an instance type has: general knowledge of EC2's sizes, not AWS's pages (§2.3)."""

from __future__ import annotations

GIB = 2**30

_VCPUS = {"medium": 1, "large": 2, "xlarge": 4}  # NxLarge is 4 * N
_GIB_PER_VCPU = {"c": 2.0, "m": 4.0, "r": 8.0, "g": 4.0, "t": 2.0, "p": 8.0, "x": 16.0, "inf": 2.0, "trn": 4.0}
_EXCEPTIONS = {  # GiB
    "t2.medium": 4.0, "t2.large": 8.0, "t2.xlarge": 16.0, "t2.2xlarge": 32.0,
    "t3.medium": 4.0, "t3.large": 8.0, "t3.xlarge": 16.0, "t3.2xlarge": 32.0,
    "c4.large": 3.75, "c4.xlarge": 7.5, "c4.2xlarge": 15.0, "c4.4xlarge": 30.0, "c4.8xlarge": 60.0,
    "p2.xlarge": 61.0, "p2.8xlarge": 488.0, "p2.16xlarge": 732.0,
    "p3.2xlarge": 61.0, "p3.8xlarge": 244.0, "p3.16xlarge": 488.0,
}  # fmt: skip
_UNKNOWN = 16.0
_GPUS = {  # of NVIDIA's, by family: the sizes that have more than one
    "g4dn": {"12xlarge": 4}, "g5": {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8},
    "g6": {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8}, "g6e": {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8},
    "p2": {"8xlarge": 8, "16xlarge": 16}, "p3": {"8xlarge": 4, "16xlarge": 8}, "p3dn": {"24xlarge": 8},
    "p4d": {"24xlarge": 8}, "p4de": {"24xlarge": 8}, "p5": {"48xlarge": 8}, "p5e": {"48xlarge": 8},
    "p5en": {"48xlarge": 8},
}  # fmt: skip


def memory(instance_type: str) -> int:
    """Return the bytes of memory of an `ml.*` instance type; 16 GiB if its name is not known."""
    family, _, size = instance_type.removeprefix("ml.").partition(".")
    if (gib := _EXCEPTIONS.get(f"{family}.{size}")) is not None:
        return int(gib * GIB)
    letters = "".join(char for char in family if char.isalpha())
    ratio = _GIB_PER_VCPU.get(letters) or _GIB_PER_VCPU.get(letters[:1], 0.0)
    return int((vcpus(instance_type) * ratio or _UNKNOWN) * GIB)


def vcpus(instance_type: str) -> int:
    """Return the number of an instance type's virtual processors; 0 if its size is not known."""
    size = instance_type.rpartition(".")[2]
    count, separator, suffix = size.partition("xlarge")
    return _VCPUS.get(size) or (4 * int(count) if separator and not suffix and count.isdecimal() else 0)


def gpus(instance_type: str) -> int:
    """Return the number of an instance type's GPUs; 0 if its family has none, or is not known."""
    family, _, size = instance_type.removeprefix("ml.").partition(".")
    return _GPUS[family].get(size, 1) if family in _GPUS else 0
