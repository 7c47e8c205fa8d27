"""What tests of several files use: small data and models, an app or a page to drive, and, in folders
of their own, imitated servers, programs to start, and the ways of foreign text into widgets."""
