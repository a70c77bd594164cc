"""The commands of ``ndrnn``, a module each, with ``run(argv)`` that returns the exit status."""
