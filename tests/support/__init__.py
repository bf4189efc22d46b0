"""What tests share: an independent reference, strategies, servers and proxies, and a deployment on an emulator."""
