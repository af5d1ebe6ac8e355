"""How the tensors of a network are quantized: one file for each scheme."""
