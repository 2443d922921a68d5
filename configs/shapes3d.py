"""3D Shapes (https://github.com/deepmind/3d-shapes): the six factors that a coloured scene is drawn from.

The hues of floor, wall and object, and the object's size, shape and the direction it is seen from, each as classes. Of
the 480,000 pictures, all combinations once, nine tenths (drawn by TFDS) are to train on; they are read while training,
because they would take 24 GB.

python -m trainer.main --config=configs/shapes3d.py --download
"""

import ml_collections

from configs import dsprites

FACTORS = {"floor_hue": 10, "wall_hue": 10, "object_hue": 10, "scale": 8, "shape": 4, "orientation": 15}


def get_config() -> ml_collections.ConfigDict:
    """The trunk of `dsprites` and a head for each factor."""
    return dsprites.factors_of("shapes3d", FACTORS, prepare={"name": "scale"})
