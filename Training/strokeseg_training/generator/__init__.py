"""Synthetic patients: anatomy, lesions, physics, acquisition and corruption, each drawn as a scene and then applied."""
