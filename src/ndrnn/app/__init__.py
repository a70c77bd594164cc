"""The command line, the demo and their reports."""
