// Package sub uses a file a.go that is not its own.
package sub

import "tiny"

// One is exported.
func One() tiny.A { return tiny.A{} }
