"""What a configuration gives, before anything is trained."""
