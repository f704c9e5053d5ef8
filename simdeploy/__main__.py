"""`python -m simdeploy` is the command line."""

from simdeploy.cli import main

main()
