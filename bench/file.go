package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/atmostonce/atmostonce/store"
)

// replace is one durable replace of a file: write, fsync, rename, fsync of the folder.
func replace(path string, data []byte) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// twoReplaces is the floor of a first run with a file for each record, in 256 folders.
func twoReplaces(dir string, size int) (func(key string) error, error) {
	for i := range 256 {
		if err := os.Mkdir(filepath.Join(dir, fmt.Sprintf("%02x", i)), 0o700); err != nil {
			return nil, err
		}
	}
	claim, settled := make([]byte, size), make([]byte, size)
	return func(key string) error {
		var n int
		if _, err := fmt.Sscan(key, &n); err != nil {
			return err
		}
		path := filepath.Join(dir, fmt.Sprintf("%02x", n%256), key+".json")
		return errors.Join(replace(path, claim), replace(path, settled))
	}, nil
}

func measureFile(ctx context.Context, l *lab) error {
	bare, err := l.folder("bare")
	if err != nil {
		return err
	}
	dir, err := l.folder("file")
	if err != nil {
		return err
	}
	s, err := store.NewFile(dir, store.FileOptions{})
	if err != nil {
		return err
	}
	defer s.Close()
	// A shard sweeps every 64th write: among so many records, sweeps are in what is measured.
	if err := l.fill(ctx, s, 0, l.size(10_000, 1)); err != nil {
		return err
	}
	l.say("  file: filled")
	r, err := l.settledRecord(ctx, s)
	if err != nil {
		return err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	floor, err := twoReplaces(bare, len(text))
	if err != nil {
		return err
	}
	if err := floor("0"); err != nil {
		return err
	}
	names := [2]string{"floor: two durable replaces", ours}
	first := [2]func(context.Context) error{
		func(context.Context) error { return floor(newKey()) },
		func(ctx context.Context) error { return l.template.first(ctx, s, "new/"+newKey()) },
	}
	duplicate := [2]func(context.Context) error{
		func(context.Context) error { _, err := os.ReadFile(filepath.Join(bare, "00", "0.json")); return err },
		func(ctx context.Context) error { return l.template.duplicate(ctx, s, "settled") },
	}
	var alone, many, again [2]turn
	for i, name := range names {
		alone[i] = turn{name: name, measure: timed(1, first[i])}
		many[i] = turn{name: name, measure: crowded(l.batch(4), first[i])}
		again[i] = turn{name: name, measure: timed(l.batch(20), duplicate[i])}
	}
	again[0].name = "floor: the file is read"
	return errors.Join(
		l.compare(ctx, "file-first", "1 at once", "µs", l.rounds(300), alone[:]),
		l.compare(ctx, "file-first", "64 at once", "µs", l.rounds(20), many[:]),
		l.compare(ctx, "file-duplicate", "1 at once", "µs", l.rounds(100), again[:]),
	)
}

// settledRecord is what the store returns of a first run, under the key "settled".
func (l *lab) settledRecord(ctx context.Context, s store.Store) (store.Record, error) {
	if err := l.template.first(ctx, s, "settled"); err != nil {
		return store.Record{}, err
	}
	return s.Load(ctx, l.template.claim("settled").Key)
}
