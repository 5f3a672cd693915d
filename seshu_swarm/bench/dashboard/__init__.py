"""Bench of the dashboard: first paint, bytes of a page, and what open pages cost the server.

world   a made-up run of so many peers and rounds
"""
