"""Backprop by hand: every gradient written out, and proved equal to autograd."""
