"""HTTP connections: from clients, to engines and to hosted upstreams, and the frames of a stream."""
