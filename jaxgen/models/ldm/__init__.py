"""Latent diffusion (Rombach et al., CVPR 2022): pictures from noise and words, step by step."""
