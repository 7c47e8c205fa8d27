"""What tests of several files use: small data and models, an app or a page to drive, and, in
folders of their own, servers to ask, programs to start, and the ways of text into widgets."""
