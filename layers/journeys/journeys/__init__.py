"""Journeys: workflows in Python that belong to a conversation and may wait for people."""
