"""What a device costs an hour: a dated list with sources, replaced or completed by the user's own."""
