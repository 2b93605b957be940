"""Helpers without knowledge of models or clouds."""
