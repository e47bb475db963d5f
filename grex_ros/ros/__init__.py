"""The ROS 2 side of grex_ros: messages in, messages out. Thin by intent; what is understood lives
in `grounding`.
"""
