"""Models: finding room for them, reading them, keeping and dropping them."""
