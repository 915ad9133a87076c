"""`python -m hyppo` is `hyppo`."""

from hyppo.cli import app

if __name__ == "__main__":
    app()
