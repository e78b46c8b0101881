"""What the tests run on: brokers, engines, clients, proxies."""
