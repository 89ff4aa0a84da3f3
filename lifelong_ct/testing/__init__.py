"""Contracts that plug-ins can be held to, from their own tests."""
