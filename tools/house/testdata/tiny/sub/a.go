package sub

func two() { One() }
