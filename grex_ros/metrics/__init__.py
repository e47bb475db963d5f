"""Scores of generalised referring expressions: masks (GRES) and boxes (GREC). numpy; AP needs
pycocotools, too."""
