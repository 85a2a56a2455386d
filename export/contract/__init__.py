"""What exporter, gate, server and client agree on."""
