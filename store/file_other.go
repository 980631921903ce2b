//go:build !linux && !darwin

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
)

const openPlain, openDir = 0, 0

func keeperOf(info fs.FileInfo) keeper { return keeper{mode: info.Mode().Perm()} }

func fileSystem(string) (name string, safe bool, err error) {
	return "", false, fmt.Errorf("%w: no file store on %s: its locks and durable writes are not known to hold", ErrUnsafe, runtime.GOOS)
}

func lockFile(string, int, bool) (*os.File, error) { return nil, errors.ErrUnsupported }

func unlockFile(*os.File) {}

func syncData(*os.File) error { return errors.ErrUnsupported }

func bootID() string { return "" }
