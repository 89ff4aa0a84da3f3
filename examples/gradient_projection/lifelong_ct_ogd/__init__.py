"""Example plug-in of lifelong-ct. Imports nothing heavy."""
