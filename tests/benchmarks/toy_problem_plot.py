"""The picture of the toy problem's paths."""
def save(*args):
    pass
