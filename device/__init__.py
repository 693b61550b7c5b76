"""What runs on the device: camera to decision. Imports numpy, and lazily OpenCV or one runtime; nothing else."""
