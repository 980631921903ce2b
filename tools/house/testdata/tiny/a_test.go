package tiny

// X is not measured.
func X() { d(); f(nil) }
