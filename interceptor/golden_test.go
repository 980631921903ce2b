package interceptor_test

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// The golden records are those of an earlier build, as they lie in a store. This
// build must read them, and write the same: during a deployment builds of both kinds
// work on one store, and what is in it outlives them.
//
// With -update they are written anew, by this build: to add a scene. Do that only
// while these tests pass, for then the old records come out as they were, but for
// nonces and times. Never use it to make a failing test pass: a change of what is
// in a record keeps the old ones readable, and the changelog says what an older
// build makes of the new ones.
var golden = flag.String("golden", filepath.Join("testdata", "golden"), "the `directory` of the golden records")

// goldenStore is a kind of store, and how its records are copied.
type goldenStore interface {
	// open returns an empty store.
	open(t *testing.T) store.Store
	// dump returns what is in the store that was opened: texts by names.
	dump(t *testing.T) map[string]string
	// restore returns a store with that in it.
	restore(t *testing.T, dump map[string]string) store.Store
	// pause lets time pass in which no call is made.
	pause(d time.Duration)
	// normal returns a record's text without what differs each time it is written.
	normal(text string) string
}

// goldenNotes are about the records of a store, by scene.
type goldenNotes struct {
	Keys   map[string]string
	Tokens map[string]string
}

// goldenReading is what a build makes of a record.
type goldenReading struct {
	Digest    string
	State     store.State
	Duplicate *goldenAnswer            // what a call with the same input gets
	More      map[string]*goldenAnswer `json:",omitempty"`
	Then      store.State              // the record's state after all that
}

func TestGolden_RecordsAreRead(t *testing.T) {
	t.Parallel()
	if *update {
		return // the other test writes what this one reads
	}
	onGoldenStores(t, func(t *testing.T, s goldenStore, dir string) {
		dump, notes := goldenFiles(t, filepath.Join(dir, "records")), goldenNotes{}
		goldenJSON(t, filepath.Join(dir, "notes.json"), &notes)
		want := map[string]goldenReading{}
		goldenJSON(t, filepath.Join(dir, "read.json"), &want)
		got := goldenRead(t, s, dump, notes)
		require.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)))
		for name := range want {
			assert.Equal(t, goldenText(t, want[name]), goldenText(t, got[name]), name)
		}
	})
}

func TestGolden_RecordsAreWrittenAlike(t *testing.T) {
	t.Parallel()
	onGoldenStores(t, func(t *testing.T, s goldenStore, dir string) {
		dump, notes := goldenWrite(t, s)
		if *update {
			require.NoError(t, os.RemoveAll(dir))
			for name, text := range dump {
				goldenFile(t, filepath.Join(dir, "records", name), text)
			}
			goldenFile(t, filepath.Join(dir, "notes.json"), goldenText(t, notes))
			goldenFile(t, filepath.Join(dir, "read.json"), goldenText(t, goldenRead(t, s, dump, notes)))
			return
		}
		want := goldenNotes{}
		goldenJSON(t, filepath.Join(dir, "notes.json"), &want)
		require.Equal(t, want.Keys, notes.Keys)
		require.Equal(t, slices.Sorted(maps.Keys(want.Tokens)), slices.Sorted(maps.Keys(notes.Tokens)))
		old, now := goldenNormal(s, goldenFiles(t, filepath.Join(dir, "records"))), goldenNormal(s, dump)
		require.Equal(t, slices.Sorted(maps.Keys(old)), slices.Sorted(maps.Keys(now)))
		for name := range old {
			assert.Equal(t, old[name], now[name], name)
		}
	})
}

// onGoldenStores runs a test on each kind of store. The clock of the file store's is that of a bubble,
// so that what expires there is still remembered whenever it is read.
func onGoldenStores(t *testing.T, test func(t *testing.T, s goldenStore, dir string)) {
	t.Helper()
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) { test(t, &goldenDir{}, filepath.Join(*golden, "file")) })
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, &goldenRedis{}, filepath.Join(*golden, "redis"))
	})
}

// goldenWrite has this build leave the records of all scenes.
func goldenWrite(t *testing.T, s goldenStore) (dump map[string]string, notes goldenNotes) {
	t.Helper()
	st := s.open(t)
	runs := map[string]*goldenRun{}
	for name, scene := range goldenScenes() {
		runs[name] = &goldenRun{t: t, name: name, scene: scene, store: st}
	}
	names := slices.Sorted(maps.Keys(runs))
	for _, name := range names {
		if r := runs[name]; r.scene.first != nil {
			r.scene.first(r)
		}
	}
	s.pause(goldenSettle + 100*time.Millisecond) // by another clock than the store's
	var finish []func()
	for _, name := range names {
		if r := runs[name]; r.scene.then != nil {
			r.scene.then(r)
		}
	}
	for _, name := range names {
		if r := runs[name]; r.scene.during != nil {
			finish = append(finish, r.scene.during(r))
		}
	}
	dump = s.dump(t)
	notes = goldenNotes{Keys: map[string]string{}, Tokens: map[string]string{}}
	for name, r := range runs {
		r.record()
		notes.Keys[name] = r.key
		if r.token != "" {
			notes.Tokens[name] = r.token
		}
	}
	for _, f := range finish {
		f()
	}
	return dump, notes
}

// goldenRead returns what this build makes of the records.
func goldenRead(t *testing.T, s goldenStore, dump map[string]string, notes goldenNotes) map[string]goldenReading {
	t.Helper()
	st := s.restore(t, dump)
	open := func(r store.Record) bool {
		return r.Now.Before(r.LeaseEnd) || r.State == store.Pending && r.Now.Before(r.Deadline) || r.State == store.InDoubt && r.Now.Sub(r.Doubted) <= goldenSettle
	}
	listed := map[string]store.Record{}
	for again := true; again; {
		again = false
		clear(listed)
		for r, err := range st.List(t.Context(), store.Query{}) {
			require.NoError(t, err)
			listed[r.Key], again = r, again || open(r)
		}
		if again { // they have just been written
			s.pause(goldenSettle)
		}
	}
	require.ElementsMatch(t, slices.Collect(maps.Values(notes.Keys)), slices.Collect(maps.Keys(listed)))
	byState := 0
	for _, state := range []store.State{store.Running, store.InDoubt, store.Pending, store.Succeeded, store.Failed, store.Tombstone} {
		for r, err := range st.List(t.Context(), store.Query{State: state}) {
			require.NoError(t, err)
			require.Equal(t, listed[r.Key].Revision, r.Revision)
			byState++
		}
	}
	require.Len(t, listed, byState)

	readings := map[string]goldenReading{}
	for name, scene := range goldenScenes() {
		require.Contains(t, notes.Keys, name, "there is no golden record of this scene")
		r := &goldenRun{t: t, name: name, scene: scene, store: st, key: notes.Keys[name], token: notes.Tokens[name]}
		reading := goldenReading{Digest: keys.Downstream(r.key)[:16], State: listed[r.key].State, More: map[string]*goldenAnswer{}}
		_, g := r.environment(nil)
		found, err := g.Find(t.Context(), reading.Digest)
		require.NoError(t, err)
		require.Equal(t, r.key, found.Key)
		dup, in := scene.dup, scene.in
		if dup == nil {
			dup = goldenReceipt(goldenAgain.ID)
		}
		if in == nil {
			in = goldenInput
		}
		reading.Duplicate = r.call(dup, in)
		if reading.State == store.Running {
			reading.Duplicate.Err.timeless() // its doubt began now
		}
		for _, m := range scene.more {
			reading.More[m.name] = m.call(r)
		}
		if r.token != "" {
			requireGoldenToken(t, r, listed[r.key])
		}
		reading.Then = r.record().State
		readings[name] = reading
	}
	return readings
}

// requireGoldenToken says that a token has all of its claim, so that a store which
// forgot the record gets it back.
func requireGoldenToken(t *testing.T, r *goldenRun, want store.Record) {
	t.Helper()
	forgot := &goldenRun{t: t, name: r.name, scene: r.scene, store: store.NewMemory(store.MemoryOptions{}), token: r.token}
	forgot.complete(receipt{ID: "from outside"}, nil)
	got := forgot.record()
	require.True(t, got.Expires.IsZero())
	require.Equal(t, want.Info, got.Info)
	require.Equal(t, []any{want.Key, want.Owner, want.Fence}, []any{got.Key, got.Owner, got.Fence})
}

// goldenAnswer is what a call gets.
type goldenAnswer struct {
	Encoding string       `json:",omitempty"`
	Result   string       `json:",omitempty"` // its bytes, quoted
	Err      *goldenError `json:",omitempty"`
}

// goldenError is an error as it comes through Temporal.
type goldenError struct {
	Text     string
	Type     string        `json:",omitempty"`
	Final    bool          `json:",omitempty"` // not retried
	Delay    time.Duration `json:",omitempty"`
	Category string        `json:",omitempty"`
	Details  []string      `json:",omitempty"` // their bytes, quoted
	Sealed   string        `json:",omitempty"` // its encoded attributes, quoted
	Happened bool          `json:",omitempty"` // once.MayHaveHappened
	Cause    *goldenError  `json:",omitempty"`
}

func newGoldenAnswer(value converter.EncodedValue, err error) *goldenAnswer {
	a := &goldenAnswer{}
	if err != nil {
		a.Err = newGoldenError(temporal.GetDefaultFailureConverter().ErrorToFailure(err))
		a.Err.Happened = once.MayHaveHappened(err)
		return a
	}
	var raw converter.RawValue
	if value == nil || !value.HasValue() {
		return a
	}
	if err := value.Get(&raw); err != nil {
		a.Err = &goldenError{Text: "the result cannot be read: " + err.Error()}
		return a
	}
	a.Encoding, a.Result = string(raw.Payload().GetMetadata()["encoding"]), strconv.Quote(string(raw.Payload().GetData()))
	return a
}

func newGoldenError(f *failurepb.Failure) *goldenError {
	if f == nil {
		return nil
	}
	app := f.GetApplicationFailureInfo()
	e := &goldenError{
		Text: f.GetMessage(), Type: app.GetType(), Final: app.GetNonRetryable(), Delay: app.GetNextRetryDelay().AsDuration(),
		Cause: newGoldenError(f.GetCause()),
	}
	if c := app.GetCategory(); c != 0 {
		e.Category = c.String()
	}
	for _, p := range app.GetDetails().GetPayloads() {
		e.Details = append(e.Details, strconv.Quote(string(p.GetData())))
	}
	if p := f.GetEncodedAttributes(); p != nil {
		e.Sealed = strconv.Quote(string(p.GetData()))
	}
	return e
}

var goldenTime = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)

// timeless removes times from the error.
func (e *goldenError) timeless() {
	if e != nil {
		e.Text = goldenTime.ReplaceAllString(e.Text, "TIME")
		for i := range e.Details {
			e.Details[i] = goldenTime.ReplaceAllString(e.Details[i], "TIME")
		}
		e.Cause.timeless()
	}
}

// goldenDir is the file store.
type goldenDir struct{ dir string }

func (s *goldenDir) open(t *testing.T) store.Store {
	t.Helper()
	s.dir = filepath.Join(t.TempDir(), "store")
	return openGoldenDir(t, s.dir)
}

func openGoldenDir(t *testing.T, dir string) store.Store {
	t.Helper()
	st, err := store.NewFile(dir, store.FileOptions{AnyFileSystem: true})
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	return st
}

// dump has the first line of the log, and the last one of each record.
func (s *goldenDir) dump(t *testing.T) map[string]string {
	t.Helper()
	dump := map[string]string{}
	files := goldenFiles(t, filepath.Join(s.dir, "log"))
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for n, line := range slices.Collect(strings.Lines(files[name])) {
			if n == 0 {
				dump[goldenFirst] = sealed(goldenBoot.ReplaceAllString(line, "$1 BOOT"))
			} else {
				dump[strings.Fields(line)[2]+".line"] = line
			}
		}
	}
	return dump
}

const goldenFirst = "first.line"

func (s *goldenDir) restore(t *testing.T, dump map[string]string) store.Store {
	t.Helper()
	s.pause(30 * time.Minute) // a tombstone is remembered for an hour
	dir := filepath.Join(t.TempDir(), "store")
	log := dump[goldenFirst]
	for _, name := range slices.Sorted(maps.Keys(dump)) {
		if name != goldenFirst {
			log += dump[name]
		}
	}
	goldenFile(t, filepath.Join(dir, "log", "00000001.log"), log)
	return openGoldenDir(t, dir)
}

func (s *goldenDir) pause(d time.Duration) { <-time.After(d) }

var (
	goldenBoot   = regexp.MustCompile(`(?m)^(atmostonce-log \d+ \d+) \S+`)
	goldenLine   = regexp.MustCompile(`(?m)^(1) \d{8} (\w{64} \w+ \d+) \d+ (?:-|\w{32}) \d+:\d+ `)
	goldenFence  = regexp.MustCompile(`"fence": ?\d+`)
	goldenSum    = regexp.MustCompile(`(?m) [0-9a-f]{8}$`)
	goldenNonce  = regexp.MustCompile(`\b[A-Z2-7]{26}\b`)
	goldenWorker = regexp.MustCompile(`\b\d+@[\w.-]+`)
	goldenData   = regexp.MustCompile(`"data": ?"([^"]*)"`)
	goldenMap    = regexp.MustCompile(`(\\n7\\n\\vmessageType\\x12\(temporal\.api\.common\.v1\.WorkflowExecution)(\\n\\x1b\\n\\bencoding\\x12\\x0fbinary/protobuf)`)
	goldenMicros = regexp.MustCompile(`\d{15,}`)
	goldenPacked = regexp.MustCompile(`(?m)^"packed" ".*"$`)
	goldenTurn   = regexp.MustCompile(`"revision": \d+`)
)

// normal has the bytes of outcomes in the form that the copies of Redis have.
func (s *goldenDir) normal(text string) string {
	text = goldenLine.ReplaceAllString(goldenBytes(text), "$1 SIZE $2 DURABLE CLAIM BEFORE ")
	return goldenSum.ReplaceAllString(goldenFence.ReplaceAllString(text, `"fence": FENCE`), " SUM")
}

// goldenBytes shows the bytes of outcomes.
func goldenBytes(text string) string {
	return goldenData.ReplaceAllStringFunc(text, func(field string) string {
		data, err := base64.StdEncoding.DecodeString(goldenData.FindStringSubmatch(field)[1])
		if err != nil {
			return field
		}
		return fmt.Sprintf(`"data": %q`, data)
	})
}

// goldenRedis is the Redis store. A record's time to live is the key's: it is only
// noted, so that the copy outlives it.
type goldenRedis struct {
	client *redis.Client
	store  store.Store
}

func (s *goldenRedis) open(t *testing.T) store.Store {
	t.Helper()
	s.client = startGoldenRedis(t)
	s.store = openGoldenRedis(t, s.client)
	return s.store
}

func openGoldenRedis(t *testing.T, client *redis.Client) store.Store {
	t.Helper()
	st, err := redisstore.New(client, redisstore.Options{})
	require.NoError(t, err)
	return st
}

// startGoldenRedis starts a server for the test alone.
func startGoldenRedis(t *testing.T) *redis.Client {
	t.Helper()
	if testing.Short() {
		t.Skip("needs redis-server")
	}
	dir, err := os.MkdirTemp("", "redis") //nolint:usetesting // the path of a socket must be short
	require.NoError(t, err)
	socket := filepath.Join(dir, "socket") // which no other process can have
	cmd := exec.CommandContext(t.Context(), "redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", dir)
	require.NoError(t, cmd.Start(), "redis-server is not on PATH: apt-get install redis-server")
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: socket})
	t.Cleanup(func() { _ = client.Close() })
	require.Eventually(t, func() bool { return client.Ping(t.Context()).Err() == nil }, soon, 5*time.Millisecond)
	return client
}

// dump leaves out the witness, a counter that shows whether the server has forgotten. A
// record comes twice: as the server keeps it, and as it is read.
func (s *goldenRedis) dump(t *testing.T) map[string]string {
	t.Helper()
	names, err := s.client.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	read := s.read(t)
	dump := map[string]string{}
	for _, name := range names {
		if strings.Contains(name, "witness") {
			continue
		}
		left, err := s.client.TTL(t.Context(), name).Result()
		require.NoError(t, err)
		kind, err := s.client.Type(t.Context(), name).Result()
		require.NoError(t, err)
		life := "expires"
		if left < 0 {
			life = "forever"
		}
		lines := []string{fmt.Sprintf("%q %s %s", name, kind, life)}
		if kind == "string" {
			packed, err := s.client.Get(t.Context(), name).Result()
			require.NoError(t, err)
			require.Contains(t, read, name)
			lines = append(lines, fmt.Sprintf("%q %q", "packed", packed), strings.TrimSpace(goldenText(t, read[name])))
		} else {
			members, err := s.client.ZRangeWithScores(t.Context(), name, 0, -1).Result()
			require.NoError(t, err)
			slices.SortFunc(members, func(a, b redis.Z) int { return cmp.Compare(fmt.Sprint(a.Member), fmt.Sprint(b.Member)) })
			for _, m := range members {
				lines = append(lines, fmt.Sprintf("%q %q", m.Member, strconv.FormatFloat(m.Score, 'f', 0, 64)))
			}
		}
		dump[strings.Trim(strings.TrimPrefix(name, "atmostonce:"), "{}")+".txt"] = strings.Join(lines, "\n") + "\n"
	}
	return dump
}

// read returns all records, by the names that the server has them under.
func (s *goldenRedis) read(t *testing.T) map[string]store.Record {
	t.Helper()
	read := map[string]store.Record{}
	for r, err := range s.store.List(t.Context(), store.Query{}) {
		require.NoError(t, err)
		sum, err := hex.DecodeString(keys.Downstream(r.Key))
		require.NoError(t, err)
		read["atmostonce:{"+base64.RawURLEncoding.EncodeToString(sum)[:22]+"}"] = r
	}
	return read
}

func (s *goldenRedis) restore(t *testing.T, dump map[string]string) store.Store {
	t.Helper()
	client := startGoldenRedis(t)
	for _, text := range dump {
		var name, kind, life string
		lines := strings.Split(strings.TrimSpace(text), "\n")
		_, err := fmt.Sscanf(lines[0], "%q %s %s", &name, &kind, &life)
		require.NoError(t, err)
		if kind == "string" {
			lines = lines[:2]
		}
		for _, line := range lines[1:] {
			var field, value string
			_, err := fmt.Sscanf(line, "%q %q", &field, &value)
			require.NoError(t, err)
			if kind == "string" {
				require.NoError(t, client.Set(t.Context(), name, value, 0).Err())
				continue
			}
			score, err := strconv.ParseFloat(value, 64)
			require.NoError(t, err)
			require.NoError(t, client.ZAdd(t.Context(), name, redis.Z{Score: score, Member: field}).Err())
		}
	}
	return openGoldenRedis(t, client)
}

func (s *goldenRedis) pause(d time.Duration) { <-time.After(d) }

// normal removes the revision, too: a call that takes long renews its lease. Of a
// packed record it leaves version, state, origin and flags: most of the others are
// numbers and nonces, and the record as it is read has them all.
func (s *goldenRedis) normal(text string) string {
	text = goldenPacked.ReplaceAllStringFunc(text, func(line string) string {
		packed, err := strconv.Unquote(strings.TrimPrefix(line, `"packed" `))
		if err != nil || len(packed) < 4 {
			return line
		}
		return fmt.Sprintf(`"packed" %q`, packed[:4])
	})
	text = goldenFence.ReplaceAllString(goldenBytes(text), `"fence": FENCE`)
	return goldenMicros.ReplaceAllString(goldenTurn.ReplaceAllString(text, `"revision": REVISION`), "MICROS")
}

// goldenNormal returns the texts of records without what differs each time they are
// written: nonces, which are numbered instead, times, the name of the process, the order
// of a map in protobuf, and what a store says of its own.
func goldenNormal(s goldenStore, dump map[string]string) map[string]string {
	normal := map[string]string{}
	for name, text := range dump {
		seen := map[string]string{}
		text = goldenWorker.ReplaceAllString(text, "WORKER")
		text = goldenNonce.ReplaceAllStringFunc(goldenTime.ReplaceAllString(text, "TIME"), func(nonce string) string {
			if seen[nonce] == "" {
				seen[nonce] = fmt.Sprint("NONCE", len(seen)+1)
			}
			return seen[nonce]
		})
		normal[name] = goldenMap.ReplaceAllString(s.normal(text), "$2$1")
	}
	return normal
}

// goldenFiles returns what is in the files below dir.
func goldenFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = string(text)
		return err
	}))
	return files
}

// goldenFile writes a file which only its owner may write, as may its directory.
func goldenFile(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

func goldenText(t *testing.T, v any) string {
	t.Helper()
	text, err := json.MarshalIndent(v, "", "  ")
	require.NoError(t, err)
	return string(text) + "\n"
}

func goldenJSON(t *testing.T, path string, v any) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, v))
}
