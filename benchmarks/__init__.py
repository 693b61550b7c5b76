"""How well it recognises and how fast it runs: metrics, protocols, latency. Everything prints where it came from."""
