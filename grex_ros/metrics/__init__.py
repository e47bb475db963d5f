"""Scores of generalised referring expressions: masks (GRES), boxes (GREC) and words (GREG). numpy;
AP needs pycocotools, words need pycocoevalcap and nltk, too."""
