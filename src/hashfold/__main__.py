"""`python -m hashfold` is the command `hashfold`."""

from hashfold.cli import main

if __name__ == "__main__":
    main()
