"""The Robust VQ-VAE: networks, two codebooks, joint training, and what a trained model says of samples."""
