"""What the networks are trained for."""
