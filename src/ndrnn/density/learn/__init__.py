"""How a RIDE is trained."""
