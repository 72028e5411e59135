"""Pictures made or changed by a guide instead of one pass of a network: pure, jit-able functions."""
