"""The Robust VQ-VAE: networks, two codebooks, joint training, and inference."""
