raise RuntimeError("as it happens")
