"""Lightning modules that train networks by hand or by autograd, and let one watch the gradients."""
