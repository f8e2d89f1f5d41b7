"""Homes that released versions of Parley have left behind, and the proof that this version goes on with them."""
