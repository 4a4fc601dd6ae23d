"""MIS per unit and model, and the report."""
