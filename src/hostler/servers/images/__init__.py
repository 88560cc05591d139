"""What AWS's images do, by family, in data: looked up by an image's repository and tag (table.py)."""
