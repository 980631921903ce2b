package redisstore

import (
	"encoding/binary"
	"slices"

	"github.com/atmostonce/atmostonce/store"
)

// NeededCommands and UsefulCommands are the lists of the Redis store.
func NeededCommands() []string { return slices.Clone(needed) }
func UsefulCommands() []string { return slices.Concat(useful, noticing) }

// HeadSize is how many bytes of a record are its head.
const HeadSize = headSize

// PackRecord writes a record as lua/turns.lua does.
func PackRecord(r store.Record) string {
	flags, at := byte(0), r.Settled
	for flag, set := range map[byte]bool{
		flagMarked: r.Marked, flagForgotten: r.Forgotten, flagKept: r.Kept != nil, flagBy: r.By != "",
		flagHistory: len(r.History) > 0, flagOutcome: r.Outcome.State != "",
		flagClaimed: r.Claimed.UnixMicro() == int64(r.Fence), flagGeneration: r.Generation > 0,
	} {
		if set {
			flags |= flag
		}
	}
	switch r.State {
	case store.Running:
		at = r.LeaseEnd
	case store.InDoubt:
		at = r.Doubted
	}
	p := packer{key: r.Key, buf: []byte{version, letterOf(stateLetters, r.State), letterOf(originLetters, r.Origin), flags}}
	p.buf = binary.BigEndian.AppendUint32(p.buf, uint32(r.Revision))
	deadline := int64(0)
	if !r.Deadline.IsZero() {
		deadline = r.Deadline.UnixMicro()
	}
	for _, n := range []int64{int64(r.Fence), at.UnixMicro(), deadline} {
		p.number(n)
	}
	if flags&flagClaimed == 0 {
		p.number(r.Claimed.UnixMicro())
	}
	if r.Generation > 0 {
		p.buf = binary.BigEndian.AppendUint32(p.buf, uint32(r.Generation))
	}
	p.owner(r.Owner)
	p.plainKey(r.Key)
	p.info(r.Info)
	if r.By != "" {
		p.raw(r.By)
	}
	if r.Outcome.State != "" {
		p.outcome(r.Outcome)
	}
	if r.Kept != nil {
		p.outcome(*r.Kept)
	}
	if len(r.History) > 0 {
		p.buf = append(p.buf, byte(len(r.History)))
	}
	for _, e := range r.History {
		p.raw(e.What)
		p.number(e.At.UnixMicro())
		p.buf = append(p.buf, letterOf(stateLetters, e.From))
		p.owner(e.Owner)
		p.number(int64(e.Fence))
		for _, text := range []string{e.By, e.Why, e.ID, e.FromBy, e.Who} {
			p.raw(text)
		}
	}
	return string(p.buf)
}

func (p *packer) number(n int64) {
	p.buf = append(p.buf, binary.BigEndian.AppendUint64(nil, uint64(n))[1:]...)
}

func letterOf[T comparable](letters map[byte]T, of T) byte {
	for letter, is := range letters {
		if is == of {
			return letter
		}
	}
	return 0
}
