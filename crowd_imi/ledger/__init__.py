"""Money: intents, outcomes, the cap and the spender's lease."""
