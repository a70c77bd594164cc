"""``python -m benchmarks.gpu``: what is to be measured on a CUDA device, within eight minutes."""
