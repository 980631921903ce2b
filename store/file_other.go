//go:build !linux && !darwin

package store

import (
	"fmt"
	"runtime"
)

func fileSystem(string) (name string, safe bool, err error) {
	return "", false, fmt.Errorf("%w: no file store on %s: its locks and durable writes are not known to hold", ErrUnsafe, runtime.GOOS)
}
