"""Speed: each benchmark pairs us with the peer in one run. A ratio is how many times better we are."""
