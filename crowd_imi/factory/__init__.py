"""Makes the pack: units, activations, exemplars, visualisations."""
