package dashboard_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/telemetry/dashboard"
)

func TestAlerts_PassTheirTests(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", "alerts.yml")
	promtool(t, "test", "rules", "alerts.test.yml")
}

// alert is a rule's fields by name, those of labels and annotations among them.
type alert map[string]string

// The first line of a field. Further ones of its value look otherwise.
var field = regexp.MustCompile(`^ {6,10}(?:- )?(\w+):(?: (?:[|]|>-)?(.*))?$`)

func alerts(t *testing.T) (all []alert) {
	t.Helper()
	_, rules, found := strings.Cut(string(dashboard.Alerts), "rules:\n")
	require.True(t, found)
	last := ""
	for line := range strings.Lines(rules) {
		line = strings.TrimRight(line, "\n")
		parts := field.FindStringSubmatch(line)
		switch {
		case strings.HasPrefix(strings.TrimSpace(line), "#"):
		case parts == nil:
			require.NotEmpty(t, all)
			all[len(all)-1][last] += " " + strings.TrimSpace(line)
		case parts[1] == "alert":
			all = append(all, alert{})
			fallthrough
		default:
			require.NotEmpty(t, all)
			last = parts[1]
			all[len(all)-1][last] = parts[2]
		}
	}
	for _, a := range all {
		for name := range a {
			a[name] = strings.TrimSpace(a[name])
		}
	}
	return all
}

func TestAlerts_SayWhatToDo(t *testing.T) {
	t.Parallel()
	tests, err := os.ReadFile("alerts.test.yml")
	require.NoError(t, err)
	all := alerts(t)
	require.Len(t, all, strings.Count(string(dashboard.Alerts), "alert:"))
	for _, a := range all {
		name := a["alert"]
		require.Contains(t, []string{"page", "ticket"}, a["severity"], name)
		require.NotEmpty(t, a["summary"], name)
		require.Regexp(t, `(temporal atmostonce show DIGEST|There is nothing to settle\.)$`, a["description"], "%s: say whether there is something to settle, and how", name)
		require.Equal(t, "docs/telemetry.md#"+strings.ToLower(name), a["runbook_url"])
		require.Contains(t, string(tests), `ALERTS{alertname="`+name+`",alertstate="firing",severity="`+a["severity"]+`"`, "no test has %s fire", name)
	}
}

func TestAlerts_AskForWhatTheGuardMeasures(t *testing.T) {
	t.Parallel()
	for _, a := range alerts(t) {
		by := requireKnown(t, a["alert"], a["expr"], map[string]bool{})
		for _, label := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(a["summary"]+a["description"], -1) {
			require.Contains(t, by, label[1], "%s: its text names a label that it has not", a["alert"])
		}
		for _, warning := range regexp.MustCompile(`"atmostonce: (\w+)"`).FindAllStringSubmatch(a["description"], -1) {
			require.NotEmpty(t, observe.Remedy(observe.Notice(warning[1])), "%s: there is no warning %q", a["alert"], warning[1])
		}
	}
}
