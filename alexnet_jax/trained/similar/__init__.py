"""The training images nearest to others, by a layer's features (Figure 4)."""
