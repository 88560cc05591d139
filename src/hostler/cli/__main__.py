"""`python -m hostler.cli` is `hostler`."""

from hostler.cli.main import main

main()
