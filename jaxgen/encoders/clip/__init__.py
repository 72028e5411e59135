"""CLIP (Radford et al. 2021): a picture's and a text's features in one space."""
