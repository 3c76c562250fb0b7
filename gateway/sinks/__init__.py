"""How documents leave: each sink reads the spool at its own pace."""
