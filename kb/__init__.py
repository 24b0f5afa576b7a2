"""Knowledge bases: made of raw files (preprocess), and when to use them (calibrate)."""
