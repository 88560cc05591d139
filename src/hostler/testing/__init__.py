"""For those who need a hostler of their own: the demo, tests, benchmarks."""
