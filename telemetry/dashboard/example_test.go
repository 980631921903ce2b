package dashboard_test

import (
	"log"
	"os"
	"path/filepath"

	"github.com/atmostonce/atmostonce/telemetry/dashboard"
)

// The dashboard goes to a folder from which Grafana is provisioned, the alerts to one
// of Prometheus's rule_files.
func Example() {
	for name, content := range map[string][]byte{
		"grafana/dashboards/atmostonce.json": dashboard.Grafana,
		"prometheus/rules/atmostonce.yml":    dashboard.Alerts,
	} {
		if err := os.WriteFile(filepath.FromSlash(name), content, 0o644); err != nil {
			log.Fatalln(err)
		}
	}
}
