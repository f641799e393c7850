"""Who may do what: the keys of the identity provider, tokens, roles, and the audit log.

No HTTP framework here: bytes and values in, decisions out. What a request is asked for, and the answers of refusal, are
in ``web/access.py``.
"""
