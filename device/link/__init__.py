"""From workstation to device: signed and sealed parcels, the device's store of them, and the links that carry them."""
