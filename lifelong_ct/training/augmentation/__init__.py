"""nnU-Net's augmentation on the device: a batch at a time, each sample by parameters of its own, in HU."""

from lifelong_ct.training.augmentation.blur import Blur
from lifelong_ct.training.augmentation.brightness import Brightness
from lifelong_ct.training.augmentation.chain import Chain
from lifelong_ct.training.augmentation.contrast import Contrast
from lifelong_ct.training.augmentation.gamma import Gamma
from lifelong_ct.training.augmentation.low_resolution import LowResolution
from lifelong_ct.training.augmentation.mirror import Mirror
from lifelong_ct.training.augmentation.noise import Noise
from lifelong_ct.training.augmentation.per_sample import PerSample
from lifelong_ct.training.augmentation.spatial import Spatial
from lifelong_ct.training.augmentation.transform import Transform

__all__ = [
    "Blur",
    "Brightness",
    "Chain",
    "Contrast",
    "Gamma",
    "LowResolution",
    "Mirror",
    "Noise",
    "PerSample",
    "Spatial",
    "Transform",
]
