"""Who may do what, and what the server may reach: tokens, roles, audit, secrets."""
