// Package sub uses its parent.
package sub

import "tiny"

// One is the only file's.
func One() tiny.A { return tiny.A{} }
