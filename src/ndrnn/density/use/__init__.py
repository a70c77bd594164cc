"""What is done with a model of density: evaluate, sample, inpaint, compress."""
