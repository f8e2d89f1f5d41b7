"""Prompts and votes: their import and export, and preference pairs made from votes."""
