"""Images as lattices of inputs and outputs: causal neighbourhoods, whitening, rates."""
