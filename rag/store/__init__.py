"""Where vectors live: embedded Qdrant Edge, or a Qdrant server or cluster, behind one protocol."""
