"""The source's model: network, blocks, vision encoder, and its checkpoints."""
