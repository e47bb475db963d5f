"""What a robot program imports: images, words and objects. No ROS."""
