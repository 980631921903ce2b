//go:build linux || darwin

package store

import "testing"

// MemoryDir is memoryDir, for the tests from outside.
var MemoryDir = memoryDir

// Claims is how many claims a handle holds.
func Claims(f *File) int {
	f.claims.mu.Lock()
	defer f.claims.mu.Unlock()
	return len(f.claims.held)
}

// Rotate has f begin the next segment.
func Rotate(t *testing.T, f *File) {
	t.Helper()
	inLog(t, f, func(l *log) {
		if err := l.rotate(); err != nil {
			t.Error(err)
		}
	})
}
