"""Bench of the dashboard: first paint, bytes of a page, and what open pages cost the server.

bench   the whole run: the browser, the measurements, numbers by name
folder  a made-up run as a coordinator's folder
server  the page served by a process of its own
world   a made-up run of so many peers and rounds
"""
