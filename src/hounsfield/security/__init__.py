"""Who may do what: the keys of the identity provider, tokens, roles, and the audit log.

And how we sign in elsewhere: ``credentials`` reads the settings, ``token_endpoint`` and ``azure_tokens`` get tokens,
``access_tokens`` keeps and presents them.

No HTTP framework here: bytes and values in, decisions out. What a request is asked for, and the answers of refusal, are
in ``web/access.py``.
"""
