"""What a container of the image does: people, training and clusters through one entry point."""
