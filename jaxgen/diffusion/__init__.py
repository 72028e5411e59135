"""Diffusion without networks: noise schedules, targets, samplers, guidance. Free functions."""
