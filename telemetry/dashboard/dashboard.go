// Package dashboard has a Grafana dashboard and Prometheus alert rules for the
// metrics of a guard.
//
// Both read the metrics under the names that Prometheus has for them, whether
// they come through Temporal's metrics handler or from instruments of
// [github.com/atmostonce/atmostonce/telemetry.Options].MeterProvider. Through
// Temporal's OpenTelemetry handler that needs its option UseMonotonicCounters.
package dashboard

import _ "embed"

// Grafana is a dashboard in Grafana's JSON. Import it in Grafana, or write it to
// a folder from which Grafana is provisioned; it asks for its data source itself.
//
//go:embed grafana.json
var Grafana []byte

// Alerts are alert rules in Prometheus's YAML. Write them to a file that is
// among the rule_files of Prometheus. Their label severity is page or ticket,
// for Alertmanager to route by.
//
//go:embed alerts.yml
var Alerts []byte
