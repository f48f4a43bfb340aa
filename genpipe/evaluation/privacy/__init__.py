"""What generated rows and likelihoods tell of those who were there."""
