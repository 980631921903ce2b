package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/observe"
)

var update = flag.Bool("update", false, "write docs/duplicates.md as it is measured, instead of comparing it")

// cause is a reason for which Temporal runs an activity again.
type cause struct {
	name     string
	policies []string // that it is tried under, besides without the guard
	happens  func(x *trial)
}

func causes() []cause { return slices.Concat(inAttempts, ofProcesses, acrossRuns) }

// measurement is what one trial of a cause came to.
type measurement struct {
	policy          string
	starts, effects int
	saw             string // by the workflow
	record          string
}

func TestCauses_HaveTheEffectsThatTheDocsSay(t *testing.T) { //nolint:tparallel // the subtest is the group that ends before the comparison
	t.Parallel()
	all := causes()
	table := make([][]measurement, len(all))
	t.Run("trial", func(t *testing.T) {
		for i, c := range all {
			policies := append([]string{unguarded}, c.policies...)
			table[i] = make([]measurement, len(policies))
			for j, policy := range policies {
				t.Run(c.name+"/"+policy, func(t *testing.T) {
					t.Parallel()
					x := newTrial(t, policy)
					c.happens(x)
					table[i][j] = x.measure()
				})
			}
		}
	})
	if !t.Failed() {
		compare(t, all, table)
	}
}

// compare asserts that the docs say what was measured, unless only some of the
// trials were asked for.
func compare(t *testing.T, all []cause, table [][]measurement) {
	t.Helper()
	if slices.Contains(slices.Concat(table...), measurement{}) {
		return
	}
	page := page(all, table)
	path := filepath.Join("..", "..", "docs", "duplicates.md")
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, page, 0o644))
	}
	committed, err := os.ReadFile(path)
	require.NoError(t, err, "to write it: cd samples && %s", command)
	require.Equal(t, string(committed), string(page), "docs/duplicates.md is not what was measured; to write it anew: cd samples && %s", command)
}

// measure reads what the trial has left behind. It asserts that the cause did
// strike: nothing else is worth a line of the table.
func (x *trial) measure() measurement {
	x.t.Helper()
	m := measurement{
		policy: x.policy, starts: len(x.ledger.lines(begun)), effects: len(x.ledger.lines(charged)),
		saw: strings.Join(x.saw, ", then "), record: x.states(),
	}
	if !x.guarded() {
		require.Greater(x.t, m.starts, 1, "without the guard, the body starts again")
		return m
	}
	calls := x.events.of(func(e observe.Event) bool {
		return e.Kind == observe.KindExecute || e.Kind == observe.KindDuplicate || e.Kind == observe.KindFail
	})
	require.Greater(x.t, len(calls)+x.struck, 1, "the call comes again")
	return m
}

// states lists the states of the records, which are of one or two keys.
func (x *trial) states() string {
	var states []string
	for _, r := range x.records("") {
		states = append(states, string(r.State))
	}
	if len(states) == 0 {
		return "–"
	}
	return strings.Join(states, ", ")
}

const command = "go test ./e2e -run TestCauses -update"

const preface = `# Duplicates, cause by cause

What comes of each reason that Temporal has to run an activity again: without the guard, under the guard's default policies,
and where it matters under others. Every line is measured, on a real server and with processes that are really killed, by
` + "`cd samples && " + command + "`" + `; the same test fails once a line is no longer true. Leases and
delays are shorter than the defaults, and the workers that run workflows have ` + "`interceptor.Workflows()`" + `.

How to read it: the activity writes a line to a file when its body starts, and one for its effect; these are counted. *receipt 2*
is the result of the body that made the second effect. *no answer (InDoubt)*: the workflow waits, nothing runs, and an operator
decides. By default a workflow ID has its effect once, whatever its runs; with ` + "`PerRun`" + ` each run has one, a reset excepted. An
error that is not [recognised](failures.md) is believed to say that nothing happened; a child without a name is another one after a reset.

| cause | policy | body starts | effects | what the workflow saw | record at the end |
|---|---|---|---|---|---|
`

func page(all []cause, table [][]measurement) []byte {
	var b bytes.Buffer
	b.WriteString(preface)
	for i, c := range all {
		name := c.name
		for _, m := range table[i] {
			policy := m.policy
			if strings.Contains(policy, ":") {
				policy = "`" + policy + "`"
			}
			fmt.Fprintf(&b, "| %s | %s | %d | %d | %s | %s |\n", name, policy, m.starts, m.effects, m.saw, m.record)
			name = ""
		}
	}
	return b.Bytes()
}

// The policies that causes are tried under.
const (
	unguarded = "without the guard"
	byDefault = "default"
	failing   = "InDoubt: Fail"
	asking    = "InDoubt: Reconcile"
	doubting  = "OnFailure: Doubt"
	waiting   = "OnDuplicate: Wait"
	perRun    = "Scope: PerRun"
	perKey    = "Scope: PerNamespace, Key: the order"
)
