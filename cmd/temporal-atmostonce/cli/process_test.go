package cli

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

type buffer = strings.Builder

// Every command, as a process of its own, over the store of a worker that was killed.
func TestProcess_SettlesWhatAKilledWorkerLeft(t *testing.T) {
	t.Parallel()
	dir := killWorker(t)
	audit := filepath.Join(t.TempDir(), "audit.jsonl")
	env := []string{"ATMOSTONCE_STORE=" + urlOf(dir), "ATMOSTONCE_AUDIT=" + audit}
	run := func(code int, args ...string) ran {
		t.Helper()
		r := tooled(t, env, args...)
		require.Equal(t, code, r.code, "%v: %s%s", args, r.out, r.err)
		return r
	}
	decide := func(code int, verb, order string, args ...string) ran {
		t.Helper()
		return run(code, append([]string{"--settle-delay", "20ms", verb, digestOf(order), "--operator", "ann", "--reason", "INC-812", "--yes"}, args...)...)
	}
	require.Contains(t, run(0, "list").out, "6 in doubt")
	require.Contains(t, run(0, "show", digestOf("0")).out, "nothing was heard of its owner")
	require.Contains(t, run(0, "show", "--workflow-id", "order-0").out, digestOf("0"))
	require.Contains(t, run(0, "stats").out, "in doubt   6")
	require.Contains(t, run(1, "resolve", digestOf("2"), "--not-done", "--reason", "x", "--yes").err, "too early")
	decide(0, "resolve", "0", "--done", "--result", `{"ID":"ch_0"}`)
	decide(0, "resolve", "1", "--done", "--no-result")
	decide(0, "resolve", "2", "--not-done")
	decide(0, "resolve", "3", "--failed", "card expired", "--type", "CardExpired")
	require.Contains(t, run(0, "show", digestOf("0"), "--decode").out, `{"ID":"ch_0"}`)
	require.Contains(t, run(0, "show", digestOf("3"), "--decode").out, "card expired")
	require.NotContains(t, run(0, "show", digestOf("0")).out, "ch_0", "results are hidden")
	require.NotContains(t, run(0, "export").out, "ch_0")
	decide(0, "correct", "3", "--done", "--no-result")
	decide(1, "correct", "4", "--done", "--no-result")
	decide(1, "forget", "4")
	decide(0, "reopen", "3")
	decide(1, "reopen", "3")
	decide(0, "forget", "0")
	require.Contains(t, run(0, "history", digestOf("3")).out, "by ann: INC-812")
	require.Len(t, strings.Split(strings.TrimSpace(run(0, "export").out), "\n"), 6)
	require.Contains(t, run(0, "purge", "--older", "1ns").out, "1 record was")
	run(0, "purge", "--older", "1ns", "--execute", "--reason", "cleaning", "--settle-delay", "20ms")
	require.Contains(t, run(0, "doctor", "--reindex").out, "ok       store")
	require.Contains(t, run(0, "list").out, "2 in doubt")
	log, err := os.ReadFile(audit)
	require.NoError(t, err)
	require.Equal(t, 9, strings.Count(string(log), "\n"), "each decision and each that the guard refused: %s", log)
	for line := range strings.Lines(string(log)) {
		require.True(t, json.Valid([]byte(line)), line)
		require.NotContains(t, line, "v1/shop", "no key")
	}
}

func TestProcess_ExitsWithTheDocumentedCodes(t *testing.T) {
	t.Parallel()
	dir := killWorker(t)
	env := []string{"ATMOSTONCE_STORE=" + urlOf(dir)}
	for _, c := range []struct {
		code int
		args string
	}{
		{0, "list"}, {0, "help"}, {0, "--help"}, {0, "help resolve"}, {0, "completion bash"}, {0, "__complete re"}, {0, "list --output none"},
		{2, "nothing"}, {2, "list extra"}, {2, "list --nothing"}, {2, "list --state odd"}, {2, "list --output xml"}, {2, "list --limit x"},
		{2, "show"}, {2, "show 0123"}, {2, "show 0123 0123"}, {2, "resolve " + digestOf("0")}, {2, "resolve " + digestOf("0") + " --not-done"},
		{2, "resolve " + digestOf("0") + " --not-done --done --no-result --reason x --yes"},
		{2, "resolve " + digestOf("0") + " --not-done --result 1 --reason x --yes"},
		{2, "resolve " + digestOf("0") + " --not-done --force --reason x --yes"},
		{2, "purge"}, {2, "purge --older 1h --execute"}, {2, "list --store redis://:s3cret@localhost"}, {2, "list --store mysql://a:s3cret@localhost/d"},
		{2, "list --store postgres://localhost/d?password=s3cret"}, {2, "list --store postgres://localhost/d?sslpassword=s3cret"}, {2, "list --store redis-sentinel://x/0?sentinel_password=s3cret"},
		{1, "list --store sqlite:/none"}, {1, "list --store mysql://localhost"}, {1, "list --store postgres://localhost/d?sslmode=odd"}, {2, "ui --listen 0.0.0.0:0"}, {2, "ui --listen :0"}, {2, "ui --listen example.com:80"},
		{2, "list --store odd:x"}, {2, "list --settle-delay x"},
		{3, "show 0123456789abcdef"}, {3, "show v1/none"}, {3, "history 0123456789abcdef"}, {3, "show -w none"},
		{3, "resolve 0123456789abcdef --not-done --reason x --yes"},
		{4, "resolve " + digestOf("0") + " --failed x --reason x --yes --revision 99"},
		{1, "resolve " + digestOf("0") + " --not-done --reason x --yes"},
		{1, "resolve " + digestOf("0") + " --done --result {x --reason x --yes"},
		{1, "resolve " + digestOf("0") + " --done --result @/none --reason x --yes"},
		{1, "list --store file:/none"}, {1, "list --config-file /none"}, {1, "list --profile none"},
	} {
		r := tooled(t, env, strings.Fields(c.args)...)
		require.Equal(t, c.code, r.code, "%s: %s%s", c.args, r.out, r.err)
		require.NotContains(t, r.out+r.err, "s3cret")
		if c.code != 0 {
			require.Regexp(t, `(?m)^Error: \S`, r.err, c.args)
		}
	}
	require.Equal(t, 2, tooled(t, nil, "list").code, "no store")
	empty := t.TempDir()
	require.Equal(t, 1, tooled(t, nil, "list", "--store", "file:"+empty).code, "an empty directory is no store")
	entries, err := os.ReadDir(empty)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// Temporal's CLI puts the flags that it knows before the words, and hands on what it
// does not know.
func TestProcess_TakesWhatTemporalsCLIHandsOn(t *testing.T) {
	t.Parallel()
	env := []string{"ATMOSTONCE_STORE=" + urlOf(killWorker(t))}
	for _, args := range []string{
		"-o json list", "--output jsonl --namespace shop list --limit 3", "-n shop -o json list",
		"--command-timeout 30s --color never --log-level never --log-format text --time-format iso -o json stats",
		"--env prod --env-file /none --disable-config-env --disable-config-file -o json list",
		"--codec-endpoint http://127.0.0.1:1 --codec-auth x --codec-header a=b --grpc-meta a=b --identity me --client-authority x -o json list",
		"--tls --tls-ca-path /none --tls-server-name x --tls-disable-host-verification --api-key s3cret -o json list",
		"--no-json-shorthand-payloads --client-connect-timeout 1s -o json list",
	} {
		r := tooled(t, env, strings.Fields(args)...)
		require.Zero(t, r.code, "%s: %s", args, r.err)
		require.NotContains(t, r.out+r.err, "s3cret")
		for value := json.NewDecoder(strings.NewReader(r.out)); ; {
			var v any
			if err := value.Decode(&v); err == io.EOF {
				break
			} else if err != nil {
				require.NoError(t, err, r.out)
			}
		}
	}
	require.Contains(t, tooled(t, env, "help").out, "resolve")
	require.Contains(t, tooled(t, env, "__complete", "res").out, "resolve")
	require.Contains(t, tooled(t, env, "-n", "shop", "list").out, "6 in doubt")
	require.Contains(t, tooled(t, env, "-n", "other", "list").out, "no such record")
}

func TestProcess_SaysWithinSecondsThatAServerIsDead(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // which accepts, and never answers
	require.NoError(t, err)
	defer silent.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	for _, url := range []string{
		"redis://%s/0", "rediss://%s", "redis-sentinel://%s/0?master_name=m", "redis-cluster://%s",
		"postgres://a@%s/d", "postgresql://a@%s/d?sslmode=require", "mysql://a@%s/d",
	} {
		for _, address := range []string{silent.Addr().String(), gone.Addr().String()} {
			began := time.Now()
			r := tooled(t, []string{"ATMOSTONCE_STORE=" + strings.Replace(url, "%s", address, 1), "ATMOSTONCE_PASSWORD=s3cret"}, "list")
			require.Equal(t, 1, r.code)
			require.Less(t, time.Since(began), 5*time.Second, "%s at %s", url, address)
			require.Regexp(t, `^Error: the store [a-z-]+://`+regexp.QuoteMeta(address)+`\S*: it does not answer: [^\n]+\n$`, r.err)
			require.NotContains(t, r.err, "s3cret")
		}
	}
}

// Every mistake in a configuration file is said in a line that shows nothing secret.
func TestProcess_SaysWhatIsWrongWithTheConfiguration(t *testing.T) {
	t.Parallel()
	dir := killWorker(t)
	good := "[profile.default]\naddress = \"localhost:1\"\n[profile.prod.atmostonce]\nstore = \"" + urlOf(dir) + "\"\noperator = \"ann\"\n"
	for _, c := range []struct {
		name, text, args, says string
		code                   int
	}{
		{"good", good, "--profile prod list", "6 in doubt", 0},
		{"default", strings.Replace(good, "prod", "default", 1), "list --limit 1", "in doubt", 0},
		{"no profile", good, "--profile dev list", `there is no profile "dev"`, 1},
		{"a typing error", good + "passwort = \"s3cret\"\n", "--profile prod list", "there is no setting profile.prod.atmostonce.passwort", 1},
		{"no TOML", good + "password = s3cret\n", "--profile prod list", "line 6", 1},
		{"wrong type", "[profile.prod.atmostonce]\nstore = [\"redis://:s3cret@x\"]\n", "--profile prod list", "is no TOML, or of the wrong type", 1},
		{"no store", "[profile.prod]\n", "--profile prod list", "which store?", 2},
		{"bad URL", "[profile.prod.atmostonce]\nstore = \"redis://a:s3cret@%zz\"\n", "--profile prod list", "cannot be read", 2},
		{"bad database", "[profile.prod.atmostonce]\nstore = \"redis://a:s3cret@x/db\"\n", "--profile prod list", "cannot be read", 1},
		{"no password file", good + "password_file = \"/none\"\n", "--profile prod list", "the password of the store", 1},
		{"no certificate", "[profile.prod.atmostonce]\nstore = \"rediss://x\"\n[profile.prod.atmostonce.tls]\nserver_ca_cert_path = \"/none\"\n", "--profile prod list", "server_ca_cert_path", 1},
	} {
		path := filepath.Join(t.TempDir(), "temporal.toml")
		require.NoError(t, os.WriteFile(path, []byte(c.text), 0o600))
		r := tooled(t, []string{"TEMPORAL_CONFIG_FILE=" + path}, strings.Fields(c.args)...)
		require.Equal(t, c.code, r.code, "%s: %s%s", c.name, r.out, r.err)
		require.Contains(t, r.out+r.err, c.says, c.name)
		require.NotContains(t, r.out+r.err, "s3cret", c.name)
	}
}

// Who decides without a person at the terminal says all of it.
func TestProcess_AsksNobodyWithoutATerminal(t *testing.T) {
	t.Parallel()
	env := []string{"ATMOSTONCE_STORE=" + urlOf(killWorker(t))}
	for _, args := range [][]string{{"--yes"}, {"--reason", "x"}} {
		r := tooled(t, env, append([]string{"resolve", digestOf("0"), "--failed", "x"}, args...)...)
		require.Equal(t, 2, r.code)
		require.Contains(t, r.err, "--reason WHY and --yes")
	}
	require.Contains(t, tooled(t, env, "list").out, "6 in doubt")
}

// An audit log that cannot be written keeps every decision from being made.
func TestProcess_DecidesNothingWithoutItsAuditLog(t *testing.T) {
	t.Parallel()
	env := []string{"ATMOSTONCE_STORE=" + urlOf(killWorker(t))}
	r := tooled(t, env, "resolve", digestOf("0"), "--failed", "x", "--reason", "x", "--yes", "--audit", t.TempDir())
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "nothing is decided")
	require.Contains(t, tooled(t, env, "list").out, "6 in doubt")
}

// A disk that is full by then is an error, but nobody may believe that nothing was decided.
func TestProcess_SaysThatItHasDecidedAlthoughItsAuditLogIsFull(t *testing.T) {
	t.Parallel()
	env := []string{"ATMOSTONCE_STORE=" + urlOf(killWorker(t))}
	r := tooled(t, env, "resolve", digestOf("0"), "--failed", "x", "--reason", "x", "--yes", "--audit", "/dev/full")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.out, digestOf("0"), "what was decided")
	require.Contains(t, r.err, "the audit log has no line of this")
	require.Contains(t, tooled(t, env, "list").out, "5 in doubt")
}

func TestProcess_ServesMetricsOfWhatIsInDoubtNow(t *testing.T) {
	t.Parallel()
	dir := killWorker(t)
	url := serving(t, nil, "metrics", "--listen", "127.0.0.1:0", "--store", urlOf(dir))
	scrape := func() string {
		resp, err := http.Get(url) //nolint:gosec // of this test's server
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(text)
	}
	require.Contains(t, scrape(), `atmostonce_records{namespace="shop",activity_type="ChargeCard",state="in_doubt"} 6`)
	s, err := store.NewFile(dir, store.FileOptions{AnyFileSystem: true})
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Check(t.Context()))
	tooled(t, nil, "--store", urlOf(dir), "resolve", digestOf("0"), "--failed", "x", "--reason", "x", "--yes")
	require.Contains(t, scrape(), `state="in_doubt"} 5`, "it counts at each scrape")
}
