"""Faster ways of convolutions on CPUs."""
