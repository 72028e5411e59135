"""Pictures made or changed by a guide, not by one pass of a network: pure, jit-able functions."""
