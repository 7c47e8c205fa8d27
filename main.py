"""The front door: no argument opens the app, a command runs one stage."""

import sys

if __name__ == "__main__":
    from app import environment

    environment.ensure()
    if len(sys.argv) > 1:
        from app.cli.main import main

        main()
    else:
        from app import launcher  # its child draws at once; the command line's parser costs 0.1 s

        launcher.main()
