"""A whole model beside autograd: every parameter's gradient, and the operation that is wrong."""

from manual_bp.model_audit.compare import ModelAudit, audit_model

__all__ = ["ModelAudit", "audit_model"]
