package store

import (
	"io/fs"
	"os"
	"sync"
	"time"
)

const (
	// glance is how often the files of the records that somebody waits for are looked at.
	glance = 20 * time.Millisecond
	// glanceShare bounds that to one part in so many of the time of one core.
	glanceShare = 50
)

// lookers find out that records were written. What this handle writes they are told of; for
// what others have written, one goroutine of the handle looks at the files of the
// records, for as long as somebody waits for one. It reads nothing, and if the
// disk hangs, it alone does.
//
// A lock that waits for the owner's would be heard sooner, but would take a thread of
// the process for each key, which no one who waits could give back.
type lookers struct {
	notices notices // by path of the record

	mu    sync.Mutex
	seen  map[string]*sight // by path
	looks bool              // the goroutine runs
}

// sight is a file as it was last seen.
type sight struct {
	listeners int
	known     bool // it was looked at
	is        fs.FileInfo
}

// Notify implements [Notifier]: what this handle writes is known at once, what another one
// has written after about 20 milliseconds; later if more than some hundred keys
// are waited for.
func (f *File) Notify(key string, changed chan<- struct{}) (stop func()) {
	return f.lookers.add(locate(f.dir.path, key).path, changed)
}

func (l *lookers) add(path string, changed chan<- struct{}) (stop func()) {
	mute := l.notices.add(path, changed)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil {
		l.seen = make(map[string]*sight)
	}
	if l.seen[path] == nil {
		l.seen[path] = &sight{}
	}
	l.seen[path].listeners++
	l.seen[path].known = false
	if !l.looks {
		l.looks = true
		go l.look()
	}
	var left sync.Once
	return func() {
		mute()
		left.Do(func() { l.forget(path) })
	}
}

func (l *lookers) forget(path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen[path].listeners--; l.seen[path].listeners == 0 {
		delete(l.seen, path)
	}
}

// look looks until nobody waits.
func (l *lookers) look() {
	for {
		began := time.Now()
		paths := l.paths()
		if paths == nil {
			return
		}
		for _, path := range paths {
			is, err := os.Lstat(path)
			if err != nil {
				is = nil
			}
			if l.isNew(path, is) {
				l.notices.send(path)
			}
		}
		<-time.After(max(glance, glanceShare*time.Since(began)))
	}
}

// paths returns what to look at; nil ends the goroutine.
func (l *lookers) paths() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.seen) == 0 {
		l.looks = false
		return nil
	}
	paths := make([]string, 0, len(l.seen))
	for path := range l.seen {
		paths = append(paths, path)
	}
	return paths
}

// isNew reports whether a file is another one than before. So it is for who has just begun to
// listen: he may have read it before this first look.
func (l *lookers) isNew(path string, is fs.FileInfo) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.seen[path]
	if s == nil {
		return false
	}
	// Each write of a record is another file; but a number of one may be given again.
	same := s.known && (s.is == nil) == (is == nil) && (is == nil || os.SameFile(s.is, is) && s.is.ModTime().Equal(is.ModTime()) && s.is.Size() == is.Size())
	s.known, s.is = true, is
	return !same
}
