"""Fixed-point networks for FPGAs with a learned bit-width for every weight and activation, in JAX."""
