"""What is wrong with a network's gradients: the detectors behind :func:`manual_bp.diagnose`.

=================  ==========================================================================
``watch``          sees one step: every ``call`` of torch, every gradient that passes
``nonfinite``      the first NaN or infinity, forward or backward; ``domains`` says why
``reach``          parameters without a gradient; ``zero``: with one that is exactly zero
``units``          dead, saturated and symmetric units
``flow``           gradients that vanish or explode, through layers and through time
``usage``          inputs, losses and layers that do not suit each other
``stepping``       the optimizer's step, tried out by ``steps``
``cures``          what usually helps, and where that is told
=================  ==========================================================================

Every threshold is a constant with its reason, in the file that uses it.
"""

from manual_bp.explain.diagnosis.examine import examine
from manual_bp.explain.diagnosis.finding import Diagnosis, Finding
from manual_bp.explain.diagnosis.summary import Summary

__all__ = ["Diagnosis", "Finding", "Summary", "examine"]
