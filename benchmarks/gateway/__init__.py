"""What the gateway costs users, beside no gateway, Debian's nginx and LiteLLM's proxy."""
