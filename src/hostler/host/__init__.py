"""The host process, `hostler up` itself: it binds, locks, spawns, reaps, and does not crash."""
