"""The front door: no argument opens the app, a command runs one stage."""

from app.cli import main

if __name__ == "__main__":
    main()
