"""A batch becomes numbers: the LightningModule of a native config and its parts."""
