"""What holds for all tests."""

import torch

# The tensors are tiny, and tests run side by side: threads would wait for each other.
torch.set_num_threads(1)
