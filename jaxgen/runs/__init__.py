"""Trained models: opening, using, converting, mixing and sharing them."""
