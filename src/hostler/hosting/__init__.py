"""The running things in control: instances, resident targets, health, the reconciler."""
