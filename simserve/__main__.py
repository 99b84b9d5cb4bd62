"""`python -m simserve`: the same as the `simserve` command."""

from simserve.cli import main

if __name__ == "__main__":
    main()
