from alexnet_jax.config.recipes import RECIPES as RECIPES
from alexnet_jax.model.alexnet import AlexNet as AlexNet
from alexnet_jax.trained.locate import load as load
from alexnet_jax.trained.trained_network import TrainedNetwork as TrainedNetwork
from alexnet_jax.training.own_loop import Recipe as Recipe
from alexnet_jax.training.own_loop import recipe as recipe

__version__: str
__all__ = [
    "RECIPES",
    "AlexNet",
    "Recipe",
    "TrainedNetwork",
    "__version__",
    "load",
    "recipe",
]
