"""From the activation of a revision to a ready replica."""
