"""ReLA in PyTorch: one model, configured by :class:`RelaConfig`. No ROS, no dataset."""
