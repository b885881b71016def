# Every token weighs the same, and the upper clip is wider.
extend dapo
