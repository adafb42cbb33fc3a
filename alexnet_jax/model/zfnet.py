"""The network of Zeiler and Fergus, as a variant of AlexNet.

"Visualizing and Understanding Convolutional Networks" (2013), section 4.1 and Figure 3:
what they saw in AlexNet's first layers, few middle frequencies and aliasing from its stride
of 4, led them to windows of 7x7 with stride 2.
"""

from ml_collections import ConfigDict

from alexnet_jax.model.alexnet import AlexNet, Windows


class ZFNet(AlexNet):
    """AlexNet with finer windows: 110x110x96 after conv1, 26x26x256 after conv2.

    Both are pooled to 55x55 and 13x13, if sizes are rounded up; the layers after
    that are AlexNet's. It has one tower, and with 1000 classes 62,357,608 parameters.
    """

    @staticmethod
    def windows(settings: ConfigDict) -> tuple[Windows, Windows]:
        """Returns the windows of conv1, 7x7, and of conv2, 5x5, both with stride 2."""
        return Windows(7, 2, (1, 1)), Windows(5, 2, (0, 0))
