"""Servers on this machine that speak real platforms' protocols, for tests, rehearsals and for trying things out."""
