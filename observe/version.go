package observe

// Version is the version of this module: "0.1.0", or "0.1.0-dev" on the way there.
// Temporal gets it with a worker's heartbeats, and package telemetry gives it as the
// version of its instrumentation scope. A release raises it; see CONTRIBUTING.md.
const Version = "0.1.0-dev"
