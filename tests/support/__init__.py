"""What the tests share: a proxy on a real socket, upstreams that say any bytes, a collector."""
