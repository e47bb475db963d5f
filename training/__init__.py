"""Generates scenes, trains ReLA and evaluates it; needs no ROS."""
