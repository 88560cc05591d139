"""Bytes on sockets: HTTP server and client protocols, and the framed links between our processes."""
