"""The Docker engine: containers of images, on the Docker of this machine."""
