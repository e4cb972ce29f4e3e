"""AMPLIFY's model: network, blocks, vision encoder, and AMPLIFY's checkpoints."""
