"""The front door: a command runs one stage; without one it shows the way in."""

from app.cli import main

if __name__ == "__main__":
    main()
