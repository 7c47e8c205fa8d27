"""Charts of braille characters, for the terminal and the app."""
