"""Post-training quantization: steps that need a float network, no labels."""
