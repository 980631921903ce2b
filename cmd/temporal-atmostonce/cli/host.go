package cli

import (
	"time"

	"github.com/spf13/pflag"
)

// hostFlags are those of Temporal's CLI, which hands them on to an extension.
type hostFlags struct {
	output, color, timeFormat            string
	timeout                              time.Duration
	configFile, profile                  string
	noConfigFile, noConfigEnv            bool
	address, namespace, apiKey, identity string
	codecEndpoint, codecAuth             string
	codecHeader, grpcMeta                []string
	tls                                  bool
	tlsFiles                             map[string]*string
	connectTimeout                       time.Duration
}

func (h *hostFlags) add(f *pflag.FlagSet) {
	f.StringVarP(&h.output, "output", "o", "text", "text, json, jsonl, or none")
	f.StringVar(&h.color, "color", "auto", "auto, always, or never")
	f.StringVar(&h.timeFormat, "time-format", "relative", "of text: relative or iso")
	f.DurationVar(&h.timeout, "command-timeout", 0, "ends the command; 0: its own timeouts")
	f.StringVar(&h.configFile, "config-file", "", "configuration file; $TEMPORAL_CONFIG_FILE, or Temporal's own place")
	f.StringVar(&h.profile, "profile", "", "profile in the configuration file; $TEMPORAL_PROFILE, or default")
	f.BoolVar(&h.noConfigFile, "disable-config-file", false, "read no configuration file")
	f.BoolVar(&h.noConfigEnv, "disable-config-env", false, "take nothing of Temporal's client from the environment")
	f.StringVar(&h.address, "address", "", "host and port of Temporal; $TEMPORAL_ADDRESS, or the profile's")
	f.StringVarP(&h.namespace, "namespace", "n", "", "Temporal's namespace; of lists: only its records")
	f.StringVar(&h.apiKey, "api-key", "", "Temporal's API key; better $TEMPORAL_API_KEY")
	f.StringVar(&h.identity, "identity", "", "who asks Temporal")
	f.StringVar(&h.codecEndpoint, "codec-endpoint", "", "URL of the codec server that encrypts and decrypts results")
	f.StringVar(&h.codecAuth, "codec-auth", "", "Authorization header for the codec server; better $TEMPORAL_CODEC_AUTH")
	f.StringArrayVar(&h.codecHeader, "codec-header", nil, "KEY=VALUE header for the codec server")
	f.StringArrayVar(&h.grpcMeta, "grpc-meta", nil, "KEY=VALUE header for Temporal")
	f.BoolVar(&h.tls, "tls", false, "use TLS to Temporal")
	h.tlsFiles = map[string]*string{}
	for _, name := range []string{"cert-path", "cert-data", "key-path", "key-data", "ca-path", "ca-data", "server-name", "disable-host-verification"} {
		h.tlsFiles[name] = f.String("tls-"+name, "", "TLS to Temporal")
	}
	f.Lookup("tls-disable-host-verification").NoOptDefVal = "true"
	f.DurationVar(&h.connectTimeout, "client-connect-timeout", 0, "for the connection to Temporal")
	h.accept(f)
}

// accept takes the flags of the host that change nothing here.
func (h *hostFlags) accept(f *pflag.FlagSet) {
	for _, name := range []string{"env", "env-file", "log-level", "log-format", "client-authority"} {
		f.String(name, "", "of Temporal's CLI; of no effect here")
	}
	f.Bool("no-json-shorthand-payloads", false, "of Temporal's CLI; of no effect here")
	f.VisitAll(func(flag *pflag.Flag) {
		switch flag.Name {
		case "output", "namespace", "profile", "config-file", "address", "codec-endpoint", "color":
		default:
			flag.Hidden = true // Temporal's documentation has them
		}
	})
}
