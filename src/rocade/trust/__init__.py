"""Who is who and who may do what: identity (pure, for agents too) and authority (on the fabric)."""
