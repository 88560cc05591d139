"""Bytes of requests to rows of numbers, and predictions to bytes. Nothing is ever unpickled here.

Whatever a hostile body holds, the outcome is an array no larger than a small multiple of the body, or Rejected.
"""
