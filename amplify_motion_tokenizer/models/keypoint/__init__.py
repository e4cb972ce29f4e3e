"""The compact keypoint model: network, blocks, and the reproduction's checkpoints."""
