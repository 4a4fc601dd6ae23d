"""Mechanical Turk's stand-in: the requester's API as boto3 speaks it, and the workers' site."""
