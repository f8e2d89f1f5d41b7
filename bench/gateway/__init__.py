"""`python -m bench.gateway`: what the gateway costs, compared with a direct connection and with other gateways."""
