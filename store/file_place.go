package store

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strings"
)

// This file is the names of a store's files.

const (
	recordExt = ".json"
	tempExt   = ".tmp"
	claimExt  = ".claim"
	lockName  = "lock"
	markName  = "indexed"

	shards = 256 // subdirectories
)

// place is where a key's files are: <2 hex>/<64 hex>.
type place struct {
	shard int
	path  string // of the record
}

func locate(dir, key string) place {
	sum := sha256.Sum256([]byte(key))
	name := hex.EncodeToString(sum[:])
	return place{shard: int(sum[0]), path: filepath.Join(dir, name[:2], name+recordExt)}
}

// claim is the path of the file that the claim of that nonce locks.
func (p place) claim(nonce string) string {
	sum := sha256.Sum256([]byte(nonce))
	return strings.TrimSuffix(p.path, recordExt) + "." + hex.EncodeToString(sum[:16]) + claimExt
}
