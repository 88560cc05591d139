"""The agent of an instance on another machine than control: it brings and keeps the instance's artifacts."""
